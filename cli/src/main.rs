//! `espalier`: what an operator asks and tells a control plane, with the operator's own AWS credentials.
//!
//! It decides nothing. `validate` reads specs as the functions do, `evidence show` a copy of the evidence; everything else is a
//! question to a function, asked through the AWS CLI, and its answer put into a form worth reading.

mod answer;
mod arguments;
mod commands;
mod control_plane;
mod evidence;
mod render;
#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use arguments::Arguments;
use commands::{Ending, Told};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[expect(clippy::disallowed_methods, reason = "the one place of the command that reads the clock")]
    let now = time::OffsetDateTime::now_utc();
    let told = commands::run(&arguments, now);
    ExitCode::from(print(told).code())
}

/// Answers go to standard output; why there is none goes to standard error.
fn print(told: Result<Told, commands::CommandError>) -> Ending {
    match told {
        Ok(Told { text, ending }) => {
            // A reader that has gone away (`| head`) has what it wanted.
            let _ = std::io::stdout().write_all(render::plain(&text).as_bytes());
            ending
        }
        Err(error) => {
            let text = render::plain(&format!("espalier: {}\n", espalier_domain::failure::chain(&error)));
            let _ = std::io::stderr().write_all(text.as_bytes());
            Ending::Unanswered
        }
    }
}
