//! What is sent to the control socket.

use super::Target;
use rep_control::api::{Verb, VerbRequest};

/// The body of a request, and the verb before it.
pub const CONTROL_API: Target = Target {
    name: "control-api",
    about: "a request to the control socket: its verb, then its JSON",
    run,
    seeds,
    ..Target::USUAL
};

fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (verb, body) = text.split_once(' ').unwrap_or((text, ""));
    if let Some(verb) = Verb::parse(verb) {
        assert_eq!(Verb::parse(verb.as_str()), Some(verb));
    }
    if let Ok(request) = serde_json::from_str::<VerbRequest>(body) {
        let again = serde_json::to_string(&request).expect("a request can be written");
        assert_eq!(serde_json::from_str::<VerbRequest>(&again).ok(), Some(request));
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let body = r#"{"volume":0,"force":true,"discard_my_data":true,"full":true,"from":"alpha","timeout_ms":1000}"#;
    Verb::ALL.iter().map(|verb| format!("{verb} {body}").into_bytes()).collect()
}
