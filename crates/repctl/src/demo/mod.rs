//! x
use crate::Failure;
use crate::cli::DemoArguments;
/// x
pub fn run(_: &DemoArguments) -> Result<(), Failure> {
    Ok(())
}
