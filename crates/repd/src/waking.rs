//! Telling the data thread something from another thread: a value in its channel, and a knock on its event counter,
//! since it sleeps in its ring and not in the channel.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, mpsc};

/// A sender whose receiver is woken. Never blocks.
pub(crate) struct WakingSender<T> {
    sender: mpsc::Sender<T>,
    wake: Arc<OwnedFd>,
}

/// A channel to the thread that reads the event counter `wake`.
pub(crate) fn channel<T>(wake: Arc<OwnedFd>) -> (WakingSender<T>, mpsc::Receiver<T>) {
    let (sender, receiver) = mpsc::channel();
    (WakingSender { sender, wake }, receiver)
}

impl<T> WakingSender<T> {
    /// Hands a value over and wakes the data thread. When that has ended the value is dropped.
    pub fn send(&self, value: T) {
        if self.sender.send(value).is_ok() {
            // It can't fail while the thread lives, and when it doesn't nobody needs waking.
            let _ = nix::unistd::write(self.wake.as_fd(), &1u64.to_ne_bytes());
        }
    }
}

impl<T> Clone for WakingSender<T> {
    fn clone(&self) -> Self {
        WakingSender { sender: self.sender.clone(), wake: self.wake.clone() }
    }
}
