//! What a node does of a switchover by itself: its file systems, links and units. The other node has it done through `--via`
//! (`repctl switchover-step`, hidden: its words may change with any version, since both nodes run the same).

use crate::Failure;
use crate::cli::{ConfigFile, Options, StepArguments, StepWord};
use crate::links;
use crate::mounting::Mounting;
use crate::output::print_json;
use crate::systemd::{self, UnitState};
use crate::target::Target;
use rep_control::api::{ApiError, ErrorKind, Verb, VerbRequest};
use rep_control::config::{self, LinkConfig};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How a node stands before a switchover.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Facts {
    /// Whether something is mounted there.
    pub mounted: bool,
    /// How many links it has to make.
    pub links: usize,
    /// The unit that keeps it Primary.
    pub unit: UnitState,
}

/// `switchover-step`.
pub fn run(arguments: &StepArguments, options: &Options) -> Result<(), Failure> {
    let place = Place { target: &arguments.target, path: arguments.mount.as_deref(), file: &arguments.file, options };
    match arguments.step {
        StepWord::Facts => print_json(&place.facts()?),
        word => Ok(place.take(word)?),
    }
}

/// A volume on this node, where it is mounted, with what goes along.
pub struct Place<'a> {
    pub target: &'a Target,
    /// `None`: whatever uses the device isn't a mount of ours.
    pub path: Option<&'a Path>,
    pub file: &'a ConfigFile,
    pub options: &'a Options,
}

impl Place<'_> {
    fn mounting<'a>(&'a self, path: &'a Path) -> Mounting<'a> {
        Mounting { target: self.target, path, options: self.options }
    }

    /// How things stand here. Refused where it couldn't be mounted.
    pub fn facts(&self) -> Result<Facts, ApiError> {
        let unit = systemd::state(&systemd::primary_unit(&self.target.resource));
        let Some(path) = self.path else { return Ok(Facts { unit, ..Facts::default() }) };
        if !path.is_dir() {
            let message = format!("there is no folder {} to mount at", path.display());
            return Err(ApiError::failed("NoMountPoint", message).with_hint("make it on both nodes"));
        }
        Ok(Facts { mounted: self.mounting(path).is_mounted()?, links: self.links()?.len(), unit })
    }

    pub fn take(&self, word: StepWord) -> Result<(), ApiError> {
        match word {
            StepWord::Facts => Ok(()),
            StepWord::Mount => self.path.map_or(Ok(()), |path| self.mounting(path).mount()),
            StepWord::Unmount => self.path.map_or(Ok(()), |path| self.mounting(path).unmount()),
            StepWord::StartUnit => self.unit("start"),
            StepWord::StopUnit => self.unit("stop"),
            StepWord::Handover => self.hand_over(),
            StepWord::MakeLinks => links::make_all(&self.links()?).map_err(|error| link_error(&error)),
            StepWord::RemoveLinks => links::remove_all(&self.links()?).map_err(|error| link_error(&error)),
        }
    }

    fn hand_over(&self) -> Result<(), ApiError> {
        let (options, resource) = (self.options, &self.target.resource);
        options.client().verb(resource, Verb::Handover, &VerbRequest::default(), options.timeout).map(drop)
    }

    fn unit(&self, verb: &str) -> Result<(), ApiError> {
        let unit = systemd::primary_unit(&self.target.resource);
        systemd::carry_out("UnitFailed", &["systemctl", verb, "--", &unit], self.options.timeout).map(drop)
    }

    fn links(&self) -> Result<Vec<LinkConfig>, ApiError> {
        links_of(&self.target.resource, self.file)
    }
}

/// The links of a resource, as configured.
pub fn links_of(resource: &str, file: &ConfigFile) -> Result<Vec<LinkConfig>, ApiError> {
    let config = config::load(&file.config).map_err(|errors| ApiError::from(&errors))?;
    let resource = config.resource(resource).ok_or_else(|| {
        let message = format!("{} has no resource \"{resource}\"", file.config.display());
        ApiError::new(ErrorKind::Usage, "NoSuchResource", message).with_hint("--config names another file")
    })?;
    Ok(resource.links.clone())
}

/// A link's failure in words.
pub fn link_error(error: &links::LinkError) -> ApiError {
    let (reason, message, hint) = error.words();
    ApiError::failed(reason, message).with_hint(hint)
}
