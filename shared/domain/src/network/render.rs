//! A plan as text: what an operator reads and what golden files keep.

use std::fmt::{Display, Write as _};

use crate::plan::Plan;

/// One line per step, wait and block; `converged` if there is none.
pub fn render<A: Display>(plan: &Plan<A>) -> String {
    if plan.is_converged() {
        return "converged\n".to_owned();
    }
    let mut out = String::new();
    for step in &plan.steps {
        let _ = writeln!(out, "{} ({})", step.action, step.because);
    }
    for wait in &plan.waits {
        let _ = writeln!(out, "... {}", wait.on);
    }
    for block in &plan.blocks {
        let _ = writeln!(out, "! {block}");
    }
    out
}
