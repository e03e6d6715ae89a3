//! Faults for real: what each does to tokens, counted and measured, with the program's own processes over real Redis
//! and Valkey servers. `scripts/faults` builds and runs it; a row is a file in `rows/`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "it prints what it measures, and stops where something cannot be measured"
)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use tokio::runtime::Handle;
use tokio::signal::unix::SignalKind;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

mod api;
mod authorization_server;
mod client;
mod deployment;
mod history;
mod judge;
mod load;
mod output;
mod process;
mod redis_server;
mod relay;
mod report;
mod rows;

use crate::redis_server::{KINDS, Kind};
use crate::report::Report;
use crate::rows::{ROWS, Row, Scene};

/// Runs the rows of the fault list, and prints what came of them.
#[derive(Parser)]
struct Arguments {
    /// Numbers or names of rows; none: all of them.
    rows: Vec<String>,
    /// Shorter and with less load: to see that nothing is wrong, and not how fast it is.
    #[arg(long)]
    quick: bool,
    /// So many rows at once. Figures are those of a row that runs alone.
    #[arg(long)]
    jobs: Option<usize>,
    /// The program.
    #[arg(long)]
    symbolon: PathBuf,
    /// Puts the tables in their place in this document.
    #[arg(long)]
    write: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let rows: Vec<&'static Row> = ROWS
        .iter()
        .filter(|row| arguments.rows.is_empty() || arguments.rows.iter().any(|word| row.is_called(word)))
        .collect();
    for word in &arguments.rows {
        if !rows.iter().any(|row| row.is_called(word)) {
            eprintln!("no row is called {word}");
            return ExitCode::FAILURE;
        }
    }
    let _ = KINDS.map(Kind::program);
    let symbolon = arguments.symbolon.canonicalize().unwrap();
    let report = tokio::select! {
        report = run(&arguments, &rows, &symbolon) => report,
        () = interrupted() => {
            // What it has started ends with it; what stands in the rows' threads does not come to its own end.
            output::remove_folders();
            std::process::exit(130);
        }
    };
    output::remove_folders();
    println!("{}", report.to_markdown());
    if let Some(document) = &arguments.write {
        report.write_into(document);
    }
    for fault in report.faults() {
        eprintln!("fault: {fault}");
    }
    if report.faults().next().is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Until somebody wants it to end.
async fn interrupted() {
    let signal = |kind| tokio::signal::unix::signal(kind).unwrap();
    let (mut terminal, mut other) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    tokio::select! {
        _ = terminal.recv() => {}
        _ = other.recv() => {}
    }
}

/// Every row on every kind of server.
async fn run(arguments: &Arguments, rows: &[&'static Row], symbolon: &std::path::Path) -> Report {
    let jobs = arguments.jobs.unwrap_or(if arguments.quick { 8 } else { 1 });
    let places = Arc::new(Semaphore::new(jobs));
    let mut running = JoinSet::new();
    for &row in rows {
        for kind in KINDS {
            let (places, symbolon, quick) = (places.clone(), symbolon.to_owned(), arguments.quick);
            running.spawn(async move {
                let _place = places.acquire().await.unwrap();
                let measured = run_one(row, kind, quick, symbolon).await;
                (row, kind, measured)
            });
        }
    }
    let mut report = Report::new(rows.to_vec(), arguments.quick);
    while let Some(done) = running.join_next().await {
        let (row, kind, measured) = done.unwrap();
        report.add(row, kind, measured);
    }
    report
}

/// One row, in a thread of its own: where it cannot go on it panics, and the others go on.
async fn run_one(
    row: &'static Row,
    kind: Kind,
    quick: bool,
    symbolon: PathBuf,
) -> Result<judge::Measured, String> {
    let began = history::now();
    let scene = Scene {
        kind,
        quick,
        symbolon,
    };
    let here = Handle::current();
    let measured = tokio::task::spawn_blocking(move || here.block_on((row.run)(scene))).await;
    let measured = measured.map_err(|error| format!("it could not be run: {error}"));
    let verdict = match &measured {
        Ok(measured) => measured.in_short(),
        Err(error) => error.clone(),
    };
    eprintln!(
        "{:>4} s  row {} ({}) on {kind}: {verdict}",
        began.elapsed().as_secs(),
        row.number,
        row.name
    );
    measured
}
