//! `RESOURCE` or `RESOURCE/VOLUME`.

use rep_types::ResourceName;
use std::fmt;
use std::str::FromStr;

/// What a verb is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// The resource.
    pub resource: String,
    /// One of its volumes.
    pub volume: Option<u16>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (resource, volume) = match text.split_once('/') {
            Some((resource, volume)) => (resource, Some(volume)),
            None => (text, None),
        };
        let resource = ResourceName::new(resource).map_err(|error| error.to_string())?;
        let volume = volume.map(str::parse).transpose().map_err(|_| "after '/' a volume's number is expected")?;
        Ok(Target { resource: resource.into(), volume })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resource)?;
        self.volume.map_or(Ok(()), |volume| write!(f, "/{volume}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_may_stand_behind_the_resource() {
        assert_eq!("vz".parse(), Ok(Target { resource: "vz".into(), volume: None }));
        assert_eq!("vz/3".parse(), Ok(Target { resource: "vz".into(), volume: Some(3) }));
        for wrong in ["", "/0", "vz/", "vz/x", "vz/70000", "a b", "../x", "vz/0/1"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
