//! A daemon's log is part of what is tested: a WARN or ERROR nobody expected fails the scenario.

/// The lines at level WARN or ERROR, or of a panic, that none of the expected texts appears in.
pub fn unexpected<'a>(log: &'a str, expected: &[String]) -> Vec<&'a str> {
    let loud = |line: &&str| {
        let words = || line.split_whitespace().take(4);
        words().any(|word| matches!(word, "WARN" | "ERROR")) || line.contains("panicked at")
    };
    let listed = |line: &&str| expected.iter().any(|text| line.contains(text.as_str()));
    log.lines().filter(loud).filter(|line| !listed(line)).collect()
}

/// The last lines of a log.
pub fn tail(log: &str, lines: usize) -> String {
    let all: Vec<&str> = log.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A log without the escape sequences that colour a terminal.
pub fn plain(log: &str) -> String {
    let mut out = String::with_capacity(log.len());
    let mut rest = log;
    while let Some(at) = rest.find('\u{1b}') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find(|c: char| c.is_ascii_alphabetic()).map_or(rest.len(), |end| end + 1);
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unlisted_warning_is_found_and_a_listed_one_is_not() {
        let log = "2026-01-01T00:00:00Z  INFO repd: up\n2026-01-01T00:00:01Z  WARN repd: disk is odd\nERROR x: gone\n";
        assert_eq!(unexpected(log, &[]).len(), 2);
        assert_eq!(unexpected(log, &["disk is odd".to_owned()]), ["ERROR x: gone"]);
        assert!(unexpected("INFO repd: the word WARNING in a sentence is no level", &[]).is_empty());
    }

    #[test]
    fn a_panic_is_found() {
        assert_eq!(unexpected("thread 'main' panicked at src/main.rs:1:1:", &[]).len(), 1);
    }

    #[test]
    fn colours_are_taken_off() {
        assert_eq!(plain("\u{1b}[33m WARN\u{1b}[0m repd"), " WARN repd");
    }
}
