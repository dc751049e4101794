//! `config check`, `config show`.

use crate::cli::{ConfigArguments, ConfigFile, ConfigVerb, Options};
use crate::output::{print, print_json, tell};
use crate::{Failure, terminal};
use rep_control::config::{self, Config};

pub fn run(arguments: ConfigArguments, options: &Options) -> Result<(), Failure> {
    match arguments.verb {
        ConfigVerb::Check(file) => {
            let config = load(&file)?;
            if options.json {
                let names: Vec<_> = config.resources.iter().map(|resource| resource.name.as_str()).collect();
                return print_json(&serde_json::json!({ "resources": names, "warnings": config.warnings.len() }));
            }
            let count = config.resources.len();
            let resources = if count == 1 { "resource" } else { "resources" };
            print(&format!("{}: {count} {resources}, no errors\n", file.config.display()))
        }
        ConfigVerb::Show { file, defaults } => {
            let config = load(&file)?;
            if options.json { print_json(&config.to_json(defaults)) } else { print(&config.to_toml(defaults)) }
        }
    }
}

/// Reads the configuration; warnings go to stderr.
pub fn load(file: &ConfigFile) -> Result<Config, Failure> {
    let config = config::load(&file.config).map_err(Failure::Config)?;
    for warning in &config.warnings {
        tell(warning.render(terminal::stderr_has_color()).trim_end());
    }
    Ok(config)
}
