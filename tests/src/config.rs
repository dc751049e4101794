//! The configuration file both nodes of a scenario read.

use std::fmt::Write;
use std::path::PathBuf;

/// What stands in it.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    /// The resource's name.
    pub resource: String,
    /// Lines of `[resource.NAME]`.
    pub resource_lines: Vec<String>,
    /// Lines of `[resource.NAME.net]`.
    pub net_lines: Vec<String>,
    /// Lines of `[resource.NAME.resync]`.
    pub resync_lines: Vec<String>,
    /// The nodes.
    pub nodes: Vec<NodeSection>,
}

/// A node in it.
#[derive(Clone, Debug)]
pub struct NodeSection {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its volumes.
    pub volumes: Vec<VolumeSection>,
}

/// A volume in it.
#[derive(Clone, Debug)]
pub struct VolumeSection {
    /// The backing device.
    pub disk: PathBuf,
    /// `None`: internal.
    pub meta_disk: Option<PathBuf>,
    /// The socket of its export.
    pub socket: PathBuf,
}

impl ConfigFile {
    /// The file's text.
    pub fn text(&self) -> String {
        let name = &self.resource;
        let mut text = String::new();
        let mut section = |head: &str, lines: &[String]| {
            let _ = writeln!(text, "[resource.{name}{head}]\n{}\n", lines.join("\n"));
        };
        section("", &[vec!["protocol = \"C\"".to_owned()], self.resource_lines.clone()].concat());
        section(".net", &self.net_lines);
        section(".resync", &self.resync_lines);
        for node in &self.nodes {
            section(&format!(".node.{}", node.name), &[format!("address = \"{}\"", node.address)]);
            for (number, volume) in node.volumes.iter().enumerate() {
                section(&format!(".node.{}.volume.{number}", node.name), &volume.lines());
            }
        }
        text
    }
}

impl VolumeSection {
    fn lines(&self) -> Vec<String> {
        let meta = self.meta_disk.as_ref().map_or_else(|| "internal".to_owned(), |path| path.display().to_string());
        vec![
            format!("disk = \"{}\"", self.disk.display()),
            format!("meta-disk = \"{meta}\""),
            format!("device = \"nbd:unix:{}\"", self.socket.display()),
        ]
    }
}
