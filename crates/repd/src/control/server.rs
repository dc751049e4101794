//! HTTP over the control socket. Callers are this user and root; everybody else is turned away before a byte is read.

use super::resource::Resource;
use super::runtime_dir::StartError;
use super::{Daemon, status, verbs};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::Listener;
use rep_control::api::{AdjustRequest, ApiError, REQUEST_BODY_LENGTH_MAX, Verb, VerbRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::{self, error::RecvError};

/// The pause after a failed accept: usually no descriptor is free, and trying at once would only burn time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The server, to be run until the daemon ends.
pub fn serve(
    daemon: Arc<Daemon>,
    listener: StdUnixListener,
) -> Result<impl Future<Output = ()> + Send + 'static, StartError> {
    let listener = UnixListener::from_std(listener)
        .map_err(|source| StartError::Socket { path: rep_control::CONTROL_SOCKET_NAME.into(), source })?;
    let service = router(daemon);
    Ok(async move {
        if let Err(error) = axum::serve(OwnUserListener(listener), service).await {
            tracing::error!("the control socket failed: {error}");
        }
    })
}

fn router(daemon: Arc<Daemon>) -> Router {
    Router::new()
        .route("/v1/status", get(all_status))
        .route("/v1/status/{resource}", get(one_status))
        .route("/v1/events", get(events))
        .route("/v1/adjust", post(adjust))
        .route("/v1/resources/{resource}/detail", get(detail))
        .route("/v1/resources/{resource}/{verb}", post(run_verb))
        .fallback(async || Refused(ApiError::usage("NoSuchPath", "there is nothing at this path"), Some(404)))
        .method_not_allowed_fallback(async || {
            Refused(ApiError::usage("WrongMethod", "this path takes another method"), Some(405))
        })
        .layer(DefaultBodyLimit::max(REQUEST_BODY_LENGTH_MAX))
        .with_state(daemon)
}

/// Accepts only this user and root.
struct OwnUserListener(UnixListener);

impl Listener for OwnUserListener {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok((stream, address)) if is_own_user(&stream) => return (stream, address),
                Ok(_) => tracing::warn!("another user was turned away from the control socket"),
                Err(error) => {
                    tracing::warn!("the control socket can't accept: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

fn is_own_user(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|credentials| credentials.uid() == own || credentials.uid() == 0)
}

/// An error as an answer, with another HTTP status than its kind's where that says more.
struct Refused(ApiError, Option<u16>);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = self.1.unwrap_or_else(|| self.0.error.http_status());
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, axum::Json(self.0)).into_response()
    }
}

fn answer<T: Serialize>(result: Result<T, ApiError>) -> Response {
    match result {
        Ok(value) => axum::Json(value).into_response(),
        Err(error) => Refused(error, None).into_response(),
    }
}

fn find(daemon: &Daemon, name: &str) -> Result<Arc<Resource>, ApiError> {
    daemon.resource(name).ok_or_else(|| {
        let resources = daemon.resources();
        let known: Vec<_> = resources.iter().map(|resource| resource.name()).collect();
        ApiError::usage("NoSuchResource", format!("{} has no resource \"{name}\"", daemon.node))
            .with_hint(format!("it knows: {}", if known.is_empty() { "none".into() } else { known.join(", ") }))
    })
}

async fn all_status(State(daemon): State<Arc<Daemon>>) -> Response {
    answer(Ok(status::status(&daemon.node, &daemon.resources()).await))
}

async fn one_status(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>) -> Response {
    match find(&daemon, &name) {
        Ok(resource) => answer(Ok(status::status(&daemon.node, std::slice::from_ref(&resource)).await)),
        Err(error) => Refused(error, None).into_response(),
    }
}

async fn detail(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>) -> Response {
    match find(&daemon, &name) {
        Ok(resource) => answer(status::detail(&resource).await),
        Err(error) => Refused(error, None).into_response(),
    }
}

async fn run_verb(
    State(daemon): State<Arc<Daemon>>,
    Path((name, word)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    answer(try_verb(&daemon, &name, &word, &body).await)
}

async fn try_verb(
    daemon: &Arc<Daemon>,
    name: &str,
    word: &str,
    body: &[u8],
) -> Result<rep_control::api::VerbAnswer, ApiError> {
    let resource = find(daemon, name)?;
    let verb =
        Verb::parse(word).ok_or_else(|| ApiError::usage("NoSuchVerb", format!("there is no verb \"{word}\"")))?;
    let request: VerbRequest = parse_request(body)?;
    // On a task of its own: a caller that hangs up must not leave a verb half done.
    let done = tokio::spawn(async move { verbs::run(&resource, verb, &request).await });
    done.await.unwrap_or_else(|error| Err(ApiError::failed("Internal", error.to_string())))
}

async fn adjust(State(daemon): State<Arc<Daemon>>, body: Bytes) -> Response {
    let request: AdjustRequest = match parse_request(&body) {
        Ok(request) => request,
        Err(error) => return Refused(error, None).into_response(),
    };
    // On a task of its own, as every verb.
    let done = tokio::spawn(async move { super::adjust::run(&daemon, &request).await });
    answer(done.await.unwrap_or_else(|error| Err(ApiError::failed("Internal", error.to_string()))))
}

fn parse_request<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, ApiError> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body)
        .map_err(|error| ApiError::usage("BadRequest", format!("the options make no sense: {error}")))
}

async fn events(State(daemon): State<Arc<Daemon>>) -> Response {
    let stream = EventLines { events: daemon.events.subscribe() }.into_stream();
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(stream)).into_response()
}

struct EventLines {
    events: broadcast::Receiver<rep_control::api::Event>,
}

impl EventLines {
    /// One line an event. A listener that was too slow goes on with what is still kept.
    fn into_stream(self) -> impl futures_util::Stream<Item = Result<Bytes, io::Error>> + Send {
        futures_util::stream::unfold(self, async |mut lines| {
            loop {
                match lines.events.recv().await {
                    Ok(event) => {
                        let mut line = serde_json::to_vec(&event).unwrap_or_default();
                        line.push(b'\n');
                        return Some((Ok(Bytes::from(line)), lines));
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        })
    }
}
