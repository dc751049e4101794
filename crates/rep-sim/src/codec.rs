//! Messages on the simulated link. One module, so that what travels can be made bytes by the real codec.

use rep_wire::Message;
use std::rc::Rc;

/// A frame in flight.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The message.
    pub message: Message,
    /// The payload, one number a sector.
    pub payload: Option<Rc<Vec<u32>>>,
}

/// Makes a frame.
pub fn encode(message: &Message, payload: Option<Rc<Vec<u32>>>) -> Frame {
    Frame { message: message.clone(), payload }
}

/// Takes it apart.
pub fn decode(frame: Frame) -> (Message, Option<Rc<Vec<u32>>>) {
    (frame.message, frame.payload)
}
