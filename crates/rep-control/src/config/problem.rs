//! A problem of a configuration: file, line, the offending text, what is expected. Shown the way `miette` shows them.

use super::source::SourceFile;
use crate::api::{ApiError, ConfigProblem};
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, SourceCode, SourceSpan};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// How bad a problem is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// Odd, but the configuration holds.
    Warning,
    /// The configuration doesn't hold.
    Error,
}

/// A place in a file.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Which file.
    pub file: Arc<SourceFile>,
    /// Which bytes of it.
    pub span: Range<usize>,
}

impl Place {
    /// The line, counted from 1.
    pub fn line(&self) -> usize {
        let end = self.span.start.min(self.file.text().len());
        self.file.text().as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// The column, counted from 1, in characters.
    pub fn column(&self) -> usize {
        let before = self.file.text().get(..self.span.start).unwrap_or_default();
        before.rsplit('\n').next().unwrap_or_default().chars().count() + 1
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.name(), self.line())
    }
}

/// A problem.
#[derive(Clone, Debug)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// What is wrong, as one sentence without a full stop.
    pub message: String,
    /// What is expected, or what to do.
    pub help: Option<String>,
    place: Option<Place>,
    label: String,
}

impl Problem {
    /// An error without a place: a file that can't be read.
    pub(super) fn error(message: impl Into<String>) -> Self {
        Problem { severity: Severity::Error, message: message.into(), help: None, place: None, label: String::new() }
    }

    /// Puts it somewhere.
    pub(super) fn at(mut self, place: Place, label: impl Into<String>) -> Self {
        self.place = Some(place);
        self.label = label.into();
        self
    }

    /// Adds what to do about it.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Makes it a warning.
    pub(super) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// The line it is in, counted from 1, if it is in a file.
    pub fn line(&self) -> Option<usize> {
        self.place.as_ref().map(Place::line)
    }

    /// The problem as it travels and as `--json` shows it.
    fn told(&self) -> ConfigProblem {
        let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ConfigProblem {
            severity: if self.severity == Severity::Error { "error" } else { "warning" }.to_owned(),
            file: self.place.as_ref().map(|place| place.file.name().to_owned()),
            line: self.line(),
            column: self.place.as_ref().map(Place::column),
            message: self.message.clone(),
            expected: filled(&self.label),
            help: self.help.clone(),
        }
    }

    /// The problem with its place in the text.
    pub fn render(&self, color: bool) -> String {
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(100);
        let mut text = String::new();
        match handler.render_report(&mut text, self) {
            Ok(()) => text,
            Err(_) => format!("{self}\n"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Warning => miette::Severity::Warning,
            Severity::Error => miette::Severity::Error,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.place.as_ref().map(|place| place.file.code())
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.place.as_ref()?;
        let span = SourceSpan::from(place.span.clone());
        let label = Some(self.label.clone()).filter(|label| !label.is_empty());
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(label, span))))
    }
}

/// Every problem of a configuration that doesn't hold.
#[derive(Clone, Debug)]
pub struct ConfigErrors(pub Vec<Problem>);

impl ConfigErrors {
    /// All of them with their places in the text.
    pub fn render(&self, color: bool) -> String {
        let all: String = self.0.iter().map(|problem| problem.render(color)).collect();
        let errors = self.0.iter().filter(|problem| problem.severity == Severity::Error).count();
        format!("{all}{errors} {} in the configuration; nothing was changed\n", plural(errors))
    }
}

impl From<&ConfigErrors> for ApiError {
    fn from(errors: &ConfigErrors) -> Self {
        ApiError::config(errors.0.iter().map(Problem::told).collect())
    }
}

fn plural(errors: usize) -> &'static str {
    if errors == 1 { "error" } else { "errors" }
}

impl fmt::Display for ConfigErrors {
    /// One line a problem, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            match &problem.place {
                Some(place) => write!(f, "{separator}{place}: {problem}")?,
                None => write!(f, "{separator}{problem}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
