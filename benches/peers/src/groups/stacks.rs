//! Group 2: several policies, over a service that is ready at once and through the integrations.

use super::web;
use crate::{
    effort::Effort,
    guards::{buttress, seatbelt, tower, tower_resilience},
    report::Line,
    rounds::{self, row},
    services::Echo,
};

pub(crate) const NAME: &str = "stacks";

pub(crate) fn measure(effort: Effort) -> Vec<Line> {
    let rows = vec![
        row("bare", Echo),
        row("buttress/stack-static", buttress::stack_static(Echo)),
        row("buttress/stack-runtime", buttress::stack_runtime(Echo)),
        row("buttress/stack-metrics", buttress::stack_metrics(Echo)),
        row("tower/stack-of-three", tower::stack_of_three(Echo)),
        row("tower/stack-of-three-budget", tower::stack_of_three_budget(Echo)),
        row(
            "tower-resilience/stack-of-four",
            tower_resilience::stack_of_four(Echo),
        ),
        row("seatbelt/stack-of-three", seatbelt::stack_of_three(Echo)),
    ];
    let mut lines = rounds::measure(NAME, rows, effort.rounds(1001));
    lines.extend(rounds::measure(NAME, web::through_axum(), effort.rounds(501)));
    lines.extend(rounds::measure(NAME, web::through_reqwest(), effort.rounds(1001)));
    lines
}
