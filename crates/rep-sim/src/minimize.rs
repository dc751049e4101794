//! Makes a failing plan smaller: steps are left out as long as it fails in the same way (delta debugging).

use crate::plan::{Plan, Step};

/// Which steps of a plan remain.
pub type Kept = Vec<usize>;

/// Leaves out what `fails` doesn't need; `fails` runs a plan with only these steps.
pub fn minimize(steps: usize, mut fails: impl FnMut(&[usize]) -> bool) -> Kept {
    let mut kept: Kept = (0..steps).collect();
    let mut chunk = kept.len().div_ceil(2).max(1);
    loop {
        let mut left_out = false;
        let mut at = 0;
        while at < kept.len() {
            let end = (at + chunk).min(kept.len());
            let without: Kept = kept[..at].iter().chain(&kept[end..]).copied().collect();
            if fails(&without) {
                kept = without;
                left_out = true;
            } else {
                at = end;
            }
        }
        if chunk == 1 && !left_out {
            return kept;
        }
        if !left_out {
            chunk = chunk.div_ceil(2).max(1);
        }
    }
}

impl Plan {
    /// This plan with only some of its steps.
    pub fn only(mut self, kept: &[usize]) -> Plan {
        let steps: Vec<(u64, Step)> = kept.iter().filter_map(|index| self.steps.get(*index).copied()).collect();
        self.steps = steps;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_remains() {
        let mut runs = 0;
        let kept = minimize(200, |kept| {
            runs += 1;
            kept.contains(&17) && kept.contains(&150) && kept.contains(&151)
        });
        assert_eq!(kept, vec![17, 150, 151]);
        assert!(runs < 200, "{runs} runs");
    }
}
