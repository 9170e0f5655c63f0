//! The IAM actions a function's role holds beside those of the services it calls: what Lambda itself needs.
//!
//! `espalier-aws` exports what its modules call; a test holds the template's policies against both.

/// Writing the function's own log stream. The template owns the group: a function that could make it would make one that
/// never forgets.
pub const LOGS: &[&str] = &["logs:CreateLogStream", "logs:PutLogEvents"];

/// Placing the function in a VPC (`verify` only).
pub const VPC: &[&str] = &[
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
];

/// Active tracing.
pub const TRACES: &[&str] = &["xray:PutTraceSegments", "xray:PutTelemetryRecords"];

/// Handing an event that could not be answered to the dead-letter queue.
pub const DEAD_LETTERS: &[&str] = &["sqs:SendMessage"];

/// All of the above.
pub fn all() -> impl Iterator<Item = &'static str> {
    [LOGS, VPC, TRACES, DEAD_LETTERS].into_iter().flatten().copied()
}
