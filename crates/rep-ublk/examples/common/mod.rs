//! What the example servers share.

use rep_ublk::lifecycle::{self, Origin};
use std::io::{self, Read};

/// Has the block layer come to a device that is being served from now on, prints `ready N` and how it came to be, and has the block
/// layer leave it once standard input ends; `ending` is called before that.
pub fn live_until_input_ends(id: u32, origin: Origin, ending: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        if let Err(error) = lifecycle::begin(id, origin) {
            eprintln!("{error}");
            std::process::exit(1);
        }
        println!("ready {id} {origin:?}");
        // Ends with an error or at the end: both mean the same here.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        ending();
        if let Err(error) = lifecycle::stop(id) {
            eprintln!("{error}");
        }
    });
}
