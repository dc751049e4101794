//! `links`: see, make and remove what leads into the mounted volume.

use crate::Failure;
use crate::cli::{LinksArguments, LinksVerb, Options};
use crate::links::{self, LinkState};
use crate::output::{print, print_json};
use crate::switchover::{link_error, links_of};
use rep_control::config::LinkConfig;

pub fn run(arguments: &LinksArguments, options: &Options) -> Result<(), Failure> {
    let links = links_of(&arguments.target.resource, &arguments.file)?;
    match arguments.verb {
        LinksVerb::Show => show(&links, options),
        LinksVerb::Make => Ok(links::make_all(&links).map_err(|error| link_error(&error))?),
        LinksVerb::Remove => Ok(links::remove_all(&links).map_err(|error| link_error(&error))?),
    }
}

fn show(links: &[LinkConfig], options: &Options) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for link in links {
        let word = match links::state(link).map_err(|error| link_error(&error))? {
            LinkState::Made => "made",
            LinkState::Removed => "removed",
            LinkState::InTheWay => "in the way",
        };
        rows.push((link, word));
    }
    if options.json {
        let row = |(link, state): &(&LinkConfig, &str)| serde_json::json!({ "path": link.path, "target": link.target, "state": state });
        return print_json(&rows.iter().map(row).collect::<Vec<_>>());
    }
    let row = |(link, state): &(&LinkConfig, &str)| {
        format!("{:<10} {} -> {}\n", state, link.path.display(), link.target.display())
    };
    print(&rows.iter().map(row).collect::<String>())
}
