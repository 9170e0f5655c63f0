//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use espalier_domain::id::{Generation, Reason, StackName, VerifierName};
use espalier_domain::spec::AllowedDomains;

/// Asks and tells an Espalier control plane, with your own AWS credentials.
///
/// Exit codes: 0 as it should be; 1 somebody is needed (an invalid spec, a block, a finding, too little slack);
/// 2 the command line is wrong; 3 the control plane could not be asked or did not answer.
#[derive(Debug, Parser)]
#[command(name = "espalier", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Answer as one JSON document
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The control plane's CloudFormation stack
    #[arg(long, global = true, env = "ESPALIER_CONTROL_PLANE", default_value = "espalier", value_parser = control_plane)]
    pub(crate) control_plane: String,
    /// The AWS CLI's profile
    #[arg(long, global = true)]
    pub(crate) profile: Option<String>,
    /// The AWS Region
    #[arg(long, global = true)]
    pub(crate) region: Option<String>,
}

/// What is asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check specs, without AWS: for editors and pull requests
    Validate {
        /// Spec files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The control plane's AllowedDomains, separated by commas
        #[arg(long, env = "ESPALIER_ALLOWED_DOMAINS", value_parser = allowed)]
        allowed_domains: AllowedDomains,
    },
    /// Say what would be done, and why; change nothing
    Plan {
        /// The stack
        #[arg(value_parser = stack)]
        stack: StackName,
        /// Plan with this spec in place of the stored one
        #[arg(long)]
        spec: Option<PathBuf>,
    },
    /// Show what is issued, what each target serves, how long that lasts, and what goes on
    Status {
        /// The stacks; all of them if none is named
        #[arg(value_parser = stack)]
        stacks: Vec<StackName>,
    },
    /// Look at a stack now and start what is due
    Rotate {
        /// The stack
        #[arg(value_parser = stack)]
        stack: StackName,
        /// Take nothing for seen: dial every target anew
        #[arg(long)]
        verify: bool,
    },
    /// Replace what was issued because it is unsafe: now, past windows, freezes and long bake times; recorded with who asks
    Emergency {
        /// The stack
        #[arg(value_parser = stack)]
        stack: StackName,
        /// Why, on one line; it is recorded, and shown to whoever looks at the stack
        #[arg(long, value_parser = reason)]
        reason: Reason,
        /// The newest generation that is unsafe, with all before it; the newest one there is if it is not named
        #[arg(long, value_parser = generation)]
        generation: Option<Generation>,
    },
    /// Say whether every target has at least so much slack before its certificate ends
    Check {
        /// The stacks; all of them if none is named
        #[arg(value_parser = stack)]
        stacks: Vec<StackName>,
        /// The least slack, in days
        #[arg(long)]
        min_slack: u32,
    },
    /// Show where each authority stands, and have the next one take over; what changes anything is recorded with who asks
    Authority {
        #[command(subcommand)]
        word: AuthorityWord,
    },
    /// Compare a running stack with known pitfalls; change nothing
    Diagnose {
        /// The stack
        #[arg(value_parser = stack)]
        stack: StackName,
    },
}

/// What is asked about authorities.
#[derive(Debug, Subcommand)]
pub(crate) enum AuthorityWord {
    /// Show each authority, who has not acknowledged the next one, and what would be done; change nothing
    Status,
    /// Make the next authority now; it signs nothing before it is activated
    Prepare,
    /// Say that a registered verifier has the bundle and accepts what is below the next root
    Acknowledge {
        /// The verifier, as TrustVerifiers names it
        #[arg(value_parser = verifier)]
        verifier: VerifierName,
        /// The authority
        #[arg(long)]
        authority: String,
        /// SHA-256 of the bundle that the verifier has
        #[arg(long)]
        bundle: String,
        /// How long that holds, in days
        #[arg(long, default_value_t = 30)]
        days: u32,
    },
    /// Have an authority sign from now on, whoever has not acknowledged it: in an emergency, or back to the former one
    Activate {
        /// The authority
        authority: String,
        /// Why, on one line
        #[arg(long, value_parser = reason)]
        reason: Reason,
    },
    /// Declare all that a former authority signed unsafe: replaced in every stack without waiting, and it never signs again
    Taint {
        /// The authority
        authority: String,
        /// Why, on one line
        #[arg(long, value_parser = reason)]
        reason: Reason,
    },
    /// Take an authority's root out of the bundle now, for good; nothing checks that no target serves a leaf of it
    Retire {
        /// The authority
        authority: String,
        /// Why, on one line
        #[arg(long, value_parser = reason)]
        reason: Reason,
    },
}

/// A CloudFormation stack's name (AWS CloudFormation API reference, CreateStack).
fn control_plane(text: &str) -> Result<String, &'static str> {
    let letters = |one: char| one.is_ascii_alphanumeric() || one == '-';
    let is_name =
        text.len() <= 128 && text.starts_with(|one: char| one.is_ascii_alphabetic()) && text.chars().all(letters);
    if is_name { Ok(text.to_owned()) } else { Err("letters, digits and hyphens, beginning with a letter") }
}

fn stack(text: &str) -> Result<StackName, String> {
    StackName::parse(text).map_err(|error| error.to_string())
}

fn verifier(text: &str) -> Result<VerifierName, String> {
    VerifierName::parse(text).map_err(|error| error.to_string())
}

fn reason(text: &str) -> Result<Reason, String> {
    Reason::parse(text).map_err(|error| error.to_string())
}

fn generation(text: &str) -> Result<Generation, String> {
    let number: u32 = text.parse().map_err(|_| "not a generation's number".to_owned())?;
    if number == 0 { Err("generations are counted from 1".to_owned()) } else { Ok(Generation(number)) }
}

fn allowed(text: &str) -> Result<AllowedDomains, String> {
    AllowedDomains::parse(text).map_err(|error| error.to_string())
}
