//! `config check`, `config show`, `adjust`.

use crate::Failure;
use crate::cli::{AdjustArguments, ConfigArguments, ConfigFile, ConfigVerb, Options};
use crate::terminal;
use rep_control::api::ApiError;
use rep_control::config::{self, Config};

pub fn run(arguments: ConfigArguments, options: &Options) -> Result<(), Failure> {
    match arguments.verb {
        ConfigVerb::Check(file) => {
            let config = load(&file)?;
            if options.json {
                let names: Vec<_> = config.resources.iter().map(|resource| resource.name.as_str()).collect();
                crate::print_json(&serde_json::json!({ "resources": names, "warnings": config.warnings.len() }));
            } else {
                println!("{}: {} resources, no errors", file.config.display(), config.resources.len());
            }
        }
        ConfigVerb::Show { file, defaults } => print!("{}", load(&file)?.to_toml(defaults)),
    }
    Ok(())
}

/// Reads the configuration; warnings go to stderr.
pub fn load(file: &ConfigFile) -> Result<Config, Failure> {
    let color = terminal::stderr_has_color();
    let config = config::load(&file.config).map_err(|errors| Failure::Config(errors.render(color)))?;
    for warning in &config.warnings {
        eprint!("{}", warning.render(color));
    }
    Ok(config)
}

/// Not yet: the daemon reads its configuration when it starts.
pub fn adjust(_arguments: &AdjustArguments) -> Result<(), Failure> {
    let error = ApiError::failed("NotSupported", "adjust isn't supported by this version");
    Err(error.with_hint("check the configuration with 'repctl config check', then restart repd").into())
}
