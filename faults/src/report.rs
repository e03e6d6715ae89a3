//! What came of all rows, as a document has it.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::judge::{Measured, milliseconds, quantile};
use crate::redis_server::{KINDS, Kind};
use crate::rows::Row;

/// Rows, and what was measured on each kind of server; or why it was not.
pub(crate) struct Report {
    rows: Vec<&'static Row>,
    measured: Vec<(&'static Row, Kind, Result<Measured, String>)>,
    quick: bool,
}

const BEGIN: &str = "<!-- figures: written by scripts/faults --write -->\n";
const END: &str = "<!-- end of figures -->\n";

impl Report {
    pub(crate) fn new(rows: Vec<&'static Row>, quick: bool) -> Self {
        Self {
            rows,
            measured: Vec::new(),
            quick,
        }
    }

    pub(crate) fn add(&mut self, row: &'static Row, kind: Kind, measured: Result<Measured, String>) {
        self.measured.push((row, kind, measured));
    }

    /// All that is wrong, a line each.
    pub(crate) fn faults(&self) -> impl Iterator<Item = String> {
        self.measured.iter().flat_map(|(row, kind, measured)| {
            let named = |told: &str| format!("row {} ({}) on {kind}: {told}", row.number, row.name);
            match measured {
                Ok(measured) if measured.is_right() => Vec::new(),
                Ok(measured) => std::iter::once(measured.in_short())
                    .chain(measured.examples.iter().cloned())
                    .map(|told| named(&told))
                    .collect(),
                Err(error) => vec![named(error)],
            }
        })
    }

    /// Puts it into a document, in the place of what stood there.
    pub(crate) fn write_into(&self, document: &Path) {
        let text = std::fs::read_to_string(document).unwrap();
        let (before, rest) = text.split_once(BEGIN).expect("a line where the figures begin");
        let (_, after) = rest.split_once(END).expect("a line where they end");
        let text = format!("{before}{BEGIN}\n{}\n{END}{after}", self.to_markdown().trim());
        std::fs::write(document, text).unwrap();
    }

    /// One table of all rows, then a table for each.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = String::new();
        if self.quick {
            text += "Of a quick run: the counts hold, the figures are not those of a machine at rest.\n\n";
        }
        text += "| row | fault | on | requests | accepts after the bound | tokens lost | wrong codes | p99 before | during | \
                 after |\n|---|---|---|---|---|---|---|---|---|---|\n";
        for row in &self.rows {
            for kind in KINDS {
                let _ = writeln!(text, "| {} |", self.line(row, kind).join(" | "));
            }
        }
        for row in &self.rows {
            let _ = write!(
                text,
                "\n### {}: {}\n\n{}\n\n{}",
                row.number,
                row.fault,
                wrapped(row.done),
                self.table(row)
            );
        }
        text
    }

    fn line(&self, row: &Row, kind: Kind) -> Vec<String> {
        let mut line = vec![row.number.to_owned(), row.fault.to_owned(), kind.to_string()];
        match self.of(row, kind) {
            Some(Ok(measured)) => {
                let counts = [measured.requests, measured.accepts, measured.lost, measured.wrong];
                line.extend(counts.map(|count| count.to_string()));
                for phase in ["before", "during", "after"] {
                    let of = measured.phases.iter().find(|of| of.phase == phase);
                    line.push(p99(of.map(|of| &of.used)));
                }
            }
            Some(Err(error)) => line.push(error.clone()),
            None => line.push("not run".into()),
        }
        line
    }

    fn of(&self, row: &Row, kind: Kind) -> Option<&Result<Measured, String>> {
        let found = self
            .measured
            .iter()
            .find(|(of, on, _)| std::ptr::eq(*of, row) && *on == kind);
        found.map(|(_, _, measured)| measured)
    }

    /// All figures of a row.
    fn table(&self, row: &Row) -> String {
        let columns = KINDS.map(|kind| match self.of(row, kind) {
            Some(Ok(measured)) => figures(measured),
            _ => Vec::new(),
        });
        let mut text = format!("| | {} |\n|---|---|---|\n", KINDS.map(Kind::version).join(" | "));
        let mut names: Vec<&String> = Vec::new();
        for (name, _) in columns.iter().flatten() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        for name in names {
            let of = columns.each_ref().map(|column| {
                let figure = column.iter().find(|(known, _)| known == name);
                figure.map_or("–", |(_, figure)| figure.as_str())
            });
            let _ = writeln!(text, "| {name} | {} |", of.join(" | "));
        }
        text
    }
}

fn figures(measured: &Measured) -> Vec<(String, String)> {
    let mut figures = vec![
        ("tokens handed out".to_owned(), measured.tokens.to_string()),
        (
            "revocations acknowledged".to_owned(),
            measured.revocations.to_string(),
        ),
    ];
    for of in &measured.phases {
        figures.push((
            format!("at the gateways, {}: answers, of them 503", of.phase),
            counts(&of.used, &of.unavailable),
        ));
        if !of.unavailable.is_empty() {
            figures.push((
                format!("a 503 took, {}: p99, longest", of.phase),
                format!("{}, {}", p99(Some(&of.unavailable)), longest(&of.unavailable)),
            ));
        }
        figures.push((
            format!("at the token service, {}: answers, of them 503; p99", of.phase),
            format!(
                "{}; {}",
                counts(&of.written, &of.unwritten),
                p99(Some(&of.written))
            ),
        ));
    }
    figures.extend(measured.figures.iter().cloned());
    figures
}

fn counts(all: &[Duration], unavailable: &[Duration]) -> String {
    format!("{}, {}", all.len(), unavailable.len())
}

fn p99(spans: Option<&Vec<Duration>>) -> String {
    let p99 = spans.and_then(|spans| quantile(spans, 99));
    p99.map_or("–".into(), milliseconds)
}

fn longest(spans: &[Duration]) -> String {
    spans.last().copied().map_or("–".into(), milliseconds)
}

/// In lines of a document.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 120;
    let (mut lines, mut line) = (String::new(), String::new());
    for word in text.split_whitespace() {
        if line.len() + word.len() >= WIDTH {
            lines += &line;
            lines.push('\n');
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines + &line
}
