//! The verbs that ask the daemon, and those about the configuration.

pub mod adjust;
pub mod config;
pub mod device_name;
pub mod documents;
pub mod events;
pub mod generations;
pub mod links;
pub mod primary;
pub mod resync;
pub mod split_brain;
pub mod status;
pub mod top;
pub mod verb;
pub mod verify;
pub mod wait;
