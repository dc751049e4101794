//! The table in the documentation: written together with the committed figures, and compared with them by a test.

use crate::figures::Figures;

/// Where it is, from the workspace's folder.
pub const PATH: &str = "docs/PERFORMANCE.md";
const BEGIN: &str = "<!-- instructions: from benches/instructions.toml -->\n";
const END: &str = "<!-- end of instructions -->\n";

/// The document with the table of these figures; `None` where it has no place for it.
fn with_table(document: &str, figures: &Figures) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, behind) = rest.split_once(END)?;
    Some([before, BEGIN, &figures.markdown(), END, behind].concat())
}

/// Puts the table of these figures into the document.
pub fn write(figures: &Figures) -> Result<(), String> {
    let text = std::fs::read_to_string(PATH).map_err(|e| format!("{PATH}: {e}"))?;
    let text = with_table(&text, figures).ok_or(format!("{PATH}: there is no place for the table"))?;
    std::fs::write(PATH, text).map_err(|e| format!("{PATH}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed() -> Figures {
        Figures::parse(include_str!("../../../instructions.toml")).expect("good figures")
    }

    #[test]
    fn the_table_is_of_the_committed_figures() {
        let document = include_str!("../../../../docs/PERFORMANCE.md");
        let due = with_table(document, &committed()).expect("a place for the table");
        assert!(document == due, "{PATH} is behind: 'cargo xtask instructions --accept' writes both");
    }

    #[test]
    fn only_the_table_changes() {
        let figures = Figures { workload: Vec::new(), ..committed() };
        let document = format!("a\n{BEGIN}old\n{END}b\n");
        let due = format!("a\n{BEGIN}{}{END}b\n", figures.markdown());
        assert_eq!(with_table(&document, &figures), Some(due));
        assert_eq!(with_table("a\n", &figures), None);
    }
}
