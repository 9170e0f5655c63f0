//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use espalier_domain::id::{Generation, Reason, StackName, TargetId, VerifierName};
use espalier_domain::spec::AllowedDomains;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

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
    /// The sealed inventory of certificates: where it is, a copy of it, and what a copy says
    Evidence {
        #[command(subcommand)]
        word: EvidenceWord,
    },
    /// Compare a running stack with known pitfalls; change nothing
    Diagnose {
        /// The stack
        #[arg(value_parser = stack)]
        stack: StackName,
    },
}

/// What is asked about the evidence.
#[derive(Debug, Subcommand)]
pub(crate) enum EvidenceWord {
    /// Say where the evidence is, and the newest head of each chain: note these elsewhere
    Status,
    /// Seal now what is not sealed yet, and say the new heads
    Seal,
    /// Print the public half of the sealing key, as AWS KMS has it
    Key,
    /// Copy all segments into a directory
    Fetch {
        /// The directory
        directory: PathBuf,
    },
    /// List what a copy says, without AWS; whether the copy is whole is evidence/verify.py's to say
    Show(Show),
}

/// What is shown of a copy.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The directory that was fetched
    pub(crate) directory: PathBuf,
    /// Which list; --json has all of them
    #[arg(long, value_enum, default_value_t = List::Certificates)]
    pub(crate) list: List,
    /// As a table for spreadsheets; --json comes first
    #[arg(long)]
    pub(crate) csv: bool,
    /// Only these stacks
    #[arg(long = "stack", value_parser = stack)]
    pub(crate) stacks: Vec<StackName>,
    /// Only certificates that end before this day or moment (RFC 3339)
    #[arg(long, value_parser = moment)]
    pub(crate) expires_before: Option<OffsetDateTime>,
    /// Only what was delivered to this target, or is served by it
    #[arg(long, value_parser = target)]
    pub(crate) target: Option<TargetId>,
    /// Only certificates of this authority
    #[arg(long)]
    pub(crate) issuer: Option<String>,
    /// Only certificates that are good for this name
    #[arg(long)]
    pub(crate) name: Option<String>,
}

/// The lists of the inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum List {
    /// Every certificate that was issued (PCI DSS 4.2.1.1)
    Certificates,
    /// Every authority, with its key (PCI DSS 4.2.1.1)
    Authorities,
    /// What was negotiated with each target the last time (PCI DSS 12.3.3)
    Handshakes,
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

fn target(text: &str) -> Result<TargetId, String> {
    TargetId::parse(text).map_err(|error| error.to_string())
}

fn moment(text: &str) -> Result<OffsetDateTime, String> {
    let day = format!("{text}T00:00:00Z");
    let read = OffsetDateTime::parse(text, &Rfc3339).or_else(|_| OffsetDateTime::parse(&day, &Rfc3339));
    read.map_err(|_| "neither a day (2026-11-22) nor a moment (2026-11-22T12:00:00Z)".to_owned())
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
