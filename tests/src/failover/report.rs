//! What came out, side by side.

use super::{Chain, Fault, Front, Noticed};

/// What one run showed.
#[derive(Debug, Clone)]
pub struct Report {
    /// What stood in front of the nodes.
    pub front: Front,
    /// By fault, in order.
    pub noticed: Vec<Noticed>,
    /// Slots without a block, on chains that were read at their end.
    pub missed_slots: usize,
    /// Voters with two different votes in a slot.
    pub double_votes: u64,
    /// What Holdfast printed.
    pub log: String,
}

impl Report {
    /// Errors of one fault.
    pub fn errors(&self, fault: Fault) -> &[String] {
        self.noticed.iter().find(|noticed| noticed.fault == fault).map_or(&[], |noticed| &noticed.errors)
    }
}

/// A table: a line per fault, a column per front.
pub fn table(reports: &[Report]) -> String {
    let mut text = format!("{:<30}", "errors in the client's log");
    for report in reports {
        text.push_str(&format!("{:>32}", report.front.as_str()));
    }
    text.push('\n');
    for fault in Fault::ALL {
        text.push_str(&format!("{:<30}", fault.as_str()));
        for report in reports {
            let cell = report.noticed.iter().find(|noticed| noticed.fault == fault).map_or_else(
                || "not reached".to_owned(),
                |noticed| {
                    let (published, due) = noticed.attestations;
                    let end = match noticed.chain {
                        Chain::WentOn => "",
                        Chain::StoodStill => ", chain stops",
                    };
                    format!("{} ({published}/{due} votes{end})", noticed.errors.len())
                },
            );
            text.push_str(&format!("{cell:>32}"));
        }
        text.push('\n');
    }
    text.push_str(&format!("{:<30}", "slots without a block"));
    for report in reports {
        text.push_str(&format!("{:>32}", report.missed_slots));
    }
    text.push('\n');
    text
}
