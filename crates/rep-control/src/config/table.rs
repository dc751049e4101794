//! A table of a TOML document with its place in the text: keys are taken one by one, what is left over is unknown.

use super::problem::{Place, Problem};
use super::source::SourceFile;
use std::ops::Range;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table that is being read.
pub(super) struct Table<'a> {
    file: &'a Arc<SourceFile>,
    /// What the table is called in messages: `[resource.vz.net]`.
    pub title: String,
    span: Range<usize>,
    entries: &'a DeTable<'a>,
    known: Vec<&'static str>,
    /// Whether every key is one.
    any: bool,
}

/// A value of a table.
pub(super) struct Value<'a> {
    file: &'a Arc<SourceFile>,
    /// What the value is called in messages: `timeout`.
    pub title: String,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Table<'a> {
    /// The whole document.
    pub fn root(file: &'a Arc<SourceFile>, document: &'a Spanned<DeTable<'a>>) -> Self {
        let entries = document.get_ref();
        Table { file, title: "the file".into(), span: 0..0, entries, known: Vec::new(), any: false }
    }

    /// Where the table begins.
    pub fn place(&self) -> Place {
        Place { file: self.file.clone(), span: clamp(&self.span, self.file) }
    }

    /// The value of a key.
    pub fn value(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.known.push(key);
        let (_, value) = self.entries.iter().find(|(name, _)| name.get_ref() == key)?;
        Some(Value { file: self.file, title: key.to_owned(), value })
    }

    /// A value that is an array.
    pub fn array(&mut self, key: &'static str, problems: &mut Vec<Problem>) -> Option<Vec<Value<'a>>> {
        let value = self.value(key)?;
        match value.value.get_ref() {
            DeValue::Array(items) => {
                let item = |item| Value { file: value.file, title: value.title.clone(), value: item };
                Some(items.iter().map(item).collect())
            }
            _ => value.wrong_type("an array of strings", problems),
        }
    }

    /// A value that is a table.
    pub fn table(&mut self, key: &'static str, problems: &mut Vec<Problem>) -> Option<Table<'a>> {
        self.known.push(key);
        let (name, value) = self.entries.iter().find(|(name, _)| name.get_ref() == key)?;
        self.child(name, value, problems)
    }

    /// Every entry as a table with its name: `resource.NAME`, `node.NAME`, `volume.N`.
    pub fn tables(&self, problems: &mut Vec<Problem>) -> Vec<(Value<'a>, Table<'a>)> {
        let mut tables = Vec::new();
        for (name, value) in self.entries {
            if let Some(table) = self.child(name, value, problems) {
                tables.push((Value { file: self.file, title: name.get_ref().to_string(), value }, table));
            }
        }
        tables
    }

    /// Every entry with its name, where names are the operator's own: `links`.
    pub fn values(&mut self) -> Vec<(String, Value<'a>)> {
        // Whatever stands here is meant.
        self.any = true;
        let value = |name: &str, value| Value { file: self.file, title: name.to_owned(), value };
        let entries = self.entries.iter();
        entries.map(|(name, entry)| (name.get_ref().to_string(), value(name.get_ref(), entry))).collect()
    }

    fn child(
        &self,
        name: &Spanned<std::borrow::Cow<'a, str>>,
        value: &'a Spanned<DeValue<'a>>,
        problems: &mut Vec<Problem>,
    ) -> Option<Table<'a>> {
        let title = match self.title.strip_prefix('[').and_then(|title| title.strip_suffix(']')) {
            Some(title) => format!("[{title}.{}]", name.get_ref()),
            None => format!("[{}]", name.get_ref()),
        };
        match value.get_ref() {
            DeValue::Table(entries) => {
                Some(Table { file: self.file, title, span: name.span(), entries, known: Vec::new(), any: false })
            }
            _ => Value { file: self.file, title: name.get_ref().to_string(), value }.wrong_type("a table", problems),
        }
    }

    /// Tells every key that nobody asked for.
    pub fn finish(self, problems: &mut Vec<Problem>) {
        for name in self.entries.keys().filter(|name| !self.any && !self.known.contains(&name.get_ref().as_ref())) {
            let place = Place { file: self.file.clone(), span: clamp(&name.span(), self.file) };
            let mut problem = Problem::error(format!("{} has no key \"{}\"", self.title, name.get_ref()));
            problem = match nearest(name.get_ref(), &self.known) {
                Some(near) => problem.help(format!("did you mean \"{near}\"?")),
                None => problem.help(format!("known here: {}", self.known.join(", "))),
            };
            problems.push(problem.at(place, "unknown key"));
        }
    }
}

impl<'a> Value<'a> {
    /// Where it stands.
    pub fn place(&self) -> Place {
        Place { file: self.file.clone(), span: clamp(&self.value.span(), self.file) }
    }

    /// Its text.
    pub fn string(&self, problems: &mut Vec<Problem>) -> Option<&'a str> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(text),
            _ => self.wrong_type("a string", problems),
        }
    }

    /// Its number, from 1 to a million.
    pub fn count(&self, problems: &mut Vec<Problem>) -> Option<u32> {
        let number = match self.value.get_ref() {
            DeValue::Integer(integer) => u32::from_str_radix(integer.as_str(), integer.radix()).ok(),
            _ => return self.wrong_type("a whole number", problems),
        };
        let number = number.filter(|number| (1..=1_000_000).contains(number));
        if number.is_none() {
            problems.push(self.problem("out of range", "a whole number from 1 to 1000000 is expected"));
        }
        number
    }

    /// A problem of this value.
    pub fn problem(&self, what: &str, expected: impl Into<String>) -> Problem {
        Problem::error(format!("{}: {what}", self.title)).at(self.place(), expected)
    }

    fn wrong_type<T>(&self, expected: &str, problems: &mut Vec<Problem>) -> Option<T> {
        let found = type_name(self.value.get_ref());
        problems.push(self.problem(&format!("{found} can't stand here"), format!("{expected} is expected")));
        None
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// A span inside the text, on character boundaries: whatever the parser says, showing it must not fail.
pub(super) fn clamp(span: &Range<usize>, file: &SourceFile) -> Range<usize> {
    let text = file.text();
    let floor = |at: usize| {
        let at = at.min(text.len());
        (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
    };
    let start = floor(span.start);
    start..floor(span.end).max(start)
}

/// The known key that differs by at most two edits.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    if key.len() > 40 {
        return None;
    }
    let distances = known.iter().map(|word| (edits(key, word), *word));
    distances.filter(|(distance, _)| *distance <= 2).min().map(|(_, word)| word)
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_keys_are_suggested_and_far_ones_are_not() {
        let known = ["timeout", "ping-timeout", "ping-interval"];
        assert_eq!(nearest("timout", &known), Some("timeout"));
        assert_eq!(nearest("ping_timeout", &known), Some("ping-timeout"));
        assert_eq!(nearest("colour", &known), None);
    }
}
