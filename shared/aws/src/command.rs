//! Run Command: sends our document to listed nodes and reads what became of it, node by node.
//!
//! A command's own status is never used: `Success` there can mean that nothing matched or nothing was delivered.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::io;

use aws_config::SdkConfig;
use aws_sdk_ssm::Client;
use aws_sdk_ssm::operation::send_command::SendCommandError;
use aws_sdk_ssm::types::CommandInvocation;
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction};
use espalier_domain::id::NodeId;
use espalier_domain::rotation::settle::CommandSeen;

use crate::error::{AwsError, during, is_throttle};

/// What the sender needs.
pub const SEND: &[&str] = &["ssm:SendCommand"];

/// What the reader of results needs.
pub const READ: &[&str] = &["ssm:ListCommandInvocations"];

/// What the reader of one node's answer needs (it takes no resource).
pub const READ_ONE: &[&str] = &["ssm:GetCommandInvocation"];

/// Run Command.
#[derive(Debug, Clone)]
pub struct Commands {
    client: Client,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The document's name.
    pub document: String,
    /// Its version; the default one when absent.
    pub version: Option<String>,
    /// 1 to 50 nodes.
    pub nodes: Vec<NodeId>,
    /// The document's parameters: identifiers only, for they are shown in clear in history and events.
    pub parameters: Vec<(&'static str, String)>,
    /// Ties the command to its attempt for a person who reads the history; at most 100 characters.
    pub comment: String,
    /// How long an instance may take to pick the command up, in seconds, 30 at least.
    pub delivery_timeout_s: u32,
}

/// The line with which Run Command parts standard output from standard error in what it keeps.
const ERROR_PART: &str = "----------ERROR-------";

impl Commands {
    /// Run Command of the configured account and region.
    pub fn new(sdk: &SdkConfig) -> Self {
        Self { client: Client::new(sdk) }
    }

    /// Sends a command and answers its id. Not idempotent: there is no client token, so whoever calls this has
    /// recorded the intent first, and nothing is sent again but what was certainly not taken.
    ///
    /// # Errors
    /// Systems Manager's. One id that is not managed refuses the whole call.
    pub async fn send(&self, order: Order) -> Result<String, AwsError> {
        let parameters: HashMap<String, Vec<String>> =
            order.parameters.into_iter().map(|(name, value)| (name.to_owned(), vec![value])).collect();
        let answer = self
            .client
            .send_command()
            .document_name(order.document)
            .set_document_version(order.version)
            .set_instance_ids(Some(order.nodes.into_iter().map(String::from).collect()))
            .set_parameters(Some(parameters))
            .comment(order.comment)
            .timeout_seconds(i32::try_from(order.delivery_timeout_s.clamp(30, 2_592_000)).unwrap_or(2_592_000))
            // The planner has chosen the wave. Every target of it gets the command, whatever becomes of the others:
            // the failure budget counts what was seen on the wire, not exit codes.
            .max_concurrency("100%")
            .max_errors("100%")
            .customize()
            .config_override(aws_sdk_ssm::Config::builder().retry_classifier(NothingTwice))
            .send()
            .await
            .map_err(during("ssm:SendCommand"))?;
        answer
            .command
            .and_then(|command| command.command_id)
            .ok_or_else(|| AwsError::unexpected("ssm:SendCommand", "the answer has no command id"))
    }

    /// What became of a command, for each node that has it. A node that is missing has not been seen to have
    /// it yet.
    ///
    /// # Errors
    /// Systems Manager's, except that the command is not known (yet, or any more).
    pub async fn invocations(&self, command_id: &str) -> Result<BTreeMap<NodeId, CommandSeen>, AwsError> {
        let mut invocations = BTreeMap::new();
        let mut pages = self
            .client
            .list_command_invocations()
            .command_id(command_id)
            .details(true)
            .max_results(50)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            match page.map_err(during("ssm:ListCommandInvocations")) {
                Ok(page) => invocations.extend(page.command_invocations().iter().filter_map(invocation)),
                // Straight after `SendCommand` the command may not be visible yet.
                Err(error) if matches!(error.code(), "InvocationDoesNotExist" | "InvalidCommandId") => break,
                Err(error) => return Err(error),
            }
        }
        Ok(invocations)
    }
}

impl Commands {
    /// What one node said to a command; nothing when Run Command does not know it, or not any more (it forgets after 30 days).
    ///
    /// # Errors
    /// Systems Manager's.
    pub async fn invocation(&self, command_id: &str, node: &NodeId) -> Result<Option<CommandSeen>, AwsError> {
        let asked = self.client.get_command_invocation().command_id(command_id).instance_id(node.as_str());
        let answer = match asked.send().await.map_err(during("ssm:GetCommandInvocation")) {
            Ok(answer) => answer,
            Err(error) if matches!(error.code(), "InvocationDoesNotExist" | "InvalidCommandId") => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(CommandSeen {
            status: answer.status().map(|status| status.as_str().to_owned()).unwrap_or_default(),
            status_details: answer.status_details().unwrap_or_default().to_owned(),
            output: answer.standard_output_content().unwrap_or_default().to_owned(),
        }))
    }
}

/// Keeps the SDK from repeating a call that may have had its effect: a timeout, a lost answer and a server's error leave
/// that open, and a second command would run beside the first one. What was refused for its rate, or never left
/// because nobody listened, may be sent again.
#[derive(Debug)]
struct NothingTwice;

impl ClassifyRetry for NothingTwice {
    fn classify_retry(&self, ctx: &InterceptorContext) -> RetryAction {
        let Some(Err(error)) = ctx.output_or_error() else { return RetryAction::NoActionIndicated };
        let refused = error.as_operation_error().and_then(|error| error.downcast_ref::<SendCommandError>());
        let is_throttled = refused.and_then(|error| error.meta().code()).is_some_and(is_throttle);
        let never_left = error.as_connector_error().is_some_and(|error| is_unheard(error));
        if is_throttled || never_left { RetryAction::NoActionIndicated } else { RetryAction::RetryForbidden }
    }

    fn name(&self) -> &'static str {
        "nothing twice"
    }
}

/// Whether nobody accepted the connection.
fn is_unheard(error: &(dyn Error + 'static)) -> bool {
    let refused = error.downcast_ref::<io::Error>().is_some_and(|it| it.kind() == io::ErrorKind::ConnectionRefused);
    refused || error.source().is_some_and(is_unheard)
}

fn invocation(entry: &CommandInvocation) -> Option<(NodeId, CommandSeen)> {
    let outputs: Vec<&str> = entry.command_plugins().iter().filter_map(|plugin| plugin.output()).map(printed).collect();
    let seen = CommandSeen {
        status: entry.status()?.as_str().to_owned(),
        status_details: entry.status_details().unwrap_or_default().to_owned(),
        output: outputs.join("\n"),
    };
    Some((NodeId::parse(entry.instance_id()?).ok()?, seen))
}

/// Standard output alone. A failed step's always ends with what the agent wrote to standard error
/// (`failed to run commands: exit status 1`), which must not pass for the installer's last line.
fn printed(output: &str) -> &str {
    let mut end = 0;
    for line in output.split_inclusive('\n') {
        if line.trim_end() == ERROR_PART {
            return &output[..end];
        }
        end += line.len();
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ssm::types::CommandPlugin;

    #[test]
    fn an_invocation_is_read_with_its_standard_output_only() {
        let output = "one\n{\"espalier\":1}\n----------ERROR-------\nfailed to run commands: exit status 1";
        let entry = CommandInvocation::builder()
            .instance_id("i-0abc1234def567890")
            .status("TimedOut".into())
            .status_details("Execution Timed Out")
            .command_plugins(CommandPlugin::builder().output(output).build())
            .build();
        let (target, seen) = invocation(&entry).unwrap();
        assert_eq!(target.as_str(), "i-0abc1234def567890");
        assert_eq!((seen.status.as_str(), seen.status_details.as_str()), ("TimedOut", "Execution Timed Out"));
        assert_eq!(seen.output, "one\n{\"espalier\":1}\n");
    }

    #[test]
    fn output_without_an_error_part_is_whole() {
        assert_eq!(printed("a\nb"), "a\nb");
        assert_eq!(printed(""), "");
        assert_eq!(printed("----------ERROR-------\nx"), "");
    }
}
