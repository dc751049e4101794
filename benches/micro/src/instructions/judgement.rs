//! Measured figures beside committed ones.

use crate::callgrind::{Spoiled, kept};
use crate::figures::{Figure, Figures};
use std::fmt::Write;

/// What is to be said of a workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Within the allowance, or of another compiler or processor and not compared.
    Within,
    /// Cheaper by more than the allowance.
    Cheaper,
    /// Dearer than allowed.
    Dearer,
    /// More allocations than committed: not one is allowed.
    Allocates,
    /// There is no committed figure.
    New,
    /// There is a committed figure, and no workload.
    Gone,
}

impl Verdict {
    /// Whether somebody has to decide something.
    pub fn refuses(self) -> bool {
        !matches!(self, Verdict::Within | Verdict::Cheaper)
    }

    fn told(self) -> &'static str {
        match self {
            Verdict::Within => "",
            Verdict::Cheaper => "cheaper",
            Verdict::Dearer => "DEARER",
            Verdict::Allocates => "ALLOCATES",
            Verdict::New => "NEW",
            Verdict::Gone => "GONE",
        }
    }
}

/// A workload, judged.
#[derive(Clone, PartialEq, Debug)]
pub struct Judgement {
    name: String,
    measured: Option<Figure>,
    committed: Option<Figure>,
    /// The verdict.
    pub verdict: Verdict,
}

fn verdict(committed: Option<&Figure>, measured: &Figure, allowed_excess_percent: f64, comparable: bool) -> Verdict {
    let Some(committed) = committed else { return Verdict::New };
    let excess = measured.instructions - committed.instructions;
    let allowed = committed.instructions * allowed_excess_percent / 100.0;
    if comparable && excess > allowed {
        Verdict::Dearer
    } else if measured.allocations > committed.allocations {
        Verdict::Allocates
    } else if comparable && -excess > allowed || measured.allocations < committed.allocations {
        Verdict::Cheaper
    } else {
        Verdict::Within
    }
}

/// Judges each workload, and then what is committed of none. Instructions count only where both are `comparable`.
pub fn judge(committed: &Figures, measured: &[Figure], comparable: bool) -> Vec<Judgement> {
    let find = |figures: &[Figure], name: &str| figures.iter().find(|figure| figure.name == name).cloned();
    let present = measured.iter().map(|figure| {
        let before = find(&committed.workload, &figure.name);
        let verdict = verdict(before.as_ref(), figure, committed.allowed_excess_percent, comparable);
        Judgement { name: figure.name.clone(), measured: Some(figure.clone()), committed: before, verdict }
    });
    let gone = committed.workload.iter().filter(|before| find(measured, &before.name).is_none());
    let gone = gone.map(|before| Judgement {
        name: before.name.clone(),
        measured: None,
        committed: Some(before.clone()),
        verdict: Verdict::Gone,
    });
    present.chain(gone).collect()
}

/// The table for people.
pub fn table(judgements: &[Judgement]) -> String {
    let mut text = format!(
        "{:<24} {:>12} {:>12} {:>8} {:>8} {:>10}\n",
        "an operation of", "instructions", "committed", "", "allocs", "committed"
    );
    for Judgement { name, measured, committed, verdict } in judgements {
        let of = |figure: &Option<Figure>, value: fn(&Figure) -> String| figure.as_ref().map_or("-".to_owned(), value);
        let instructions = |figure: &Figure| format!("{:.1}", figure.instructions);
        let allocations = |figure: &Figure| figure.allocations.to_string();
        let difference = match (measured, committed) {
            (Some(measured), Some(committed)) => {
                format!("{:+.1} %", (measured.instructions / committed.instructions - 1.0) * 100.0)
            }
            _ => String::new(),
        };
        // Writing to a string doesn't fail.
        let _ = writeln!(
            text,
            "{name:<24} {:>12} {:>12} {difference:>8} {:>8} {:>10}  {}",
            of(measured, instructions),
            of(committed, instructions),
            of(measured, allocations),
            of(committed, allocations),
            verdict.told()
        );
    }
    text
}

/// What to do about those that are refused.
pub fn what_to_do(refused: &[&Judgement], allowed_excess_percent: f64) -> String {
    let mut text = String::from("refused:");
    for Judgement { name, measured, committed, verdict } in refused {
        let [now, before] = [measured, committed].map(|figure| {
            figure
                .as_ref()
                .map_or("nothing".to_owned(), |f| format!("{} ({} allocations)", f.instructions, f.allocations))
        });
        let _ = write!(text, "\n  {name}: {}: {before} committed, {now} now", verdict.told());
    }
    let _ = write!(
        text,
        "\nA workload may be {allowed_excess_percent} % dearer than its committed figure, and may not allocate more.\n\
         Where the instructions go: callgrind_annotate --auto=yes FILE, of what was counted just now:"
    );
    for path in refused.iter().filter_map(|judgement| kept(&judgement.name, Spoiled::Not).ok()) {
        let _ = write!(text, "\n  {}", path.display());
    }
    text + "\nIf it can't be had for less and is worth it: 'cargo xtask instructions --accept', in the same commit, and its message \
            says what was bought."
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Origin;

    fn figure(instructions: f64, allocations: f64) -> Figure {
        Figure { name: "a/b".to_owned(), instructions, allocations }
    }

    fn figures(workload: Vec<Figure>) -> Figures {
        let origin = Origin { compiler: "a compiler".to_owned(), processor: "a processor".to_owned() };
        Figures::new(origin, workload, Some(5.0))
    }

    fn verdict_of(instructions: f64, allocations: f64, comparable: bool) -> Verdict {
        let committed = figures(vec![figure(1000.0, 1.0)]);
        judge(&committed, &[figure(instructions, allocations)], comparable)[0].verdict
    }

    #[test]
    fn what_is_dearer_than_allowed_is_refused() {
        assert_eq!(verdict_of(1050.0, 1.0, true), Verdict::Within);
        assert_eq!(verdict_of(1050.1, 1.0, true), Verdict::Dearer);
        assert_eq!(verdict_of(2000.0, 1.0, true), Verdict::Dearer);
        assert_eq!(verdict_of(949.9, 1.0, true), Verdict::Cheaper);
        assert!(Verdict::Dearer.refuses() && !Verdict::Cheaper.refuses());
    }

    #[test]
    fn no_allocation_more_is_allowed() {
        assert_eq!(verdict_of(1000.0, 1.001, true), Verdict::Allocates);
        assert_eq!(verdict_of(1000.0, 0.5, true), Verdict::Cheaper);
        assert!(Verdict::Allocates.refuses());
    }

    #[test]
    fn of_another_origin_only_allocations_are_compared() {
        assert_eq!(verdict_of(5000.0, 1.0, false), Verdict::Within);
        assert_eq!(verdict_of(10.0, 1.0, false), Verdict::Within);
        assert_eq!(verdict_of(5000.0, 2.0, false), Verdict::Allocates);
    }

    #[test]
    fn what_is_new_or_gone_is_told() {
        let other = Figure { name: "c/d".to_owned(), ..figure(1.0, 0.0) };
        let judgements = judge(&figures(vec![other]), &[figure(1.0, 0.0)], true);
        let verdicts: Vec<_> =
            judgements.iter().map(|judgement| (judgement.name.as_str(), judgement.verdict)).collect();
        assert_eq!(verdicts, [("a/b", Verdict::New), ("c/d", Verdict::Gone)]);
        assert!(Verdict::New.refuses() && Verdict::Gone.refuses());
        assert!(table(&judgements).contains("GONE"));
    }
}
