//! The SDK's configuration: built once per process, shared by every client.

use std::sync::OnceLock;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_runtime_api::client::http::{SharedHttpClient, SharedHttpConnector, http_client_fn};

/// Attempts per call, the first included. The loops above look again anyway, so a call need not outlive a long outage.
const MAX_ATTEMPTS: u32 = 4;

/// Loads region, credentials and endpoints from where the SDK finds them (environment first; on Lambda nothing else is
/// asked). Endpoint variables (`AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_<SERVICE>`) are the SDK's own and honoured.
pub async fn sdk() -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(one_connector())
        .retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS).with_max_backoff(Duration::from_secs(5)))
        .timeout_config(timeouts())
        .load()
        .await
}

/// A call that has not answered by then is `Busy`; a Lambda must never hang until its own end.
fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(3_100))
        .operation_attempt_timeout(Duration::from_secs(15))
        .operation_timeout(Duration::from_secs(40))
        .build()
}

/// One connector (one TLS configuration, one connection pool) for every client: without this each client builds and
/// throws away its own, which is most of what a client costs at a cold start.
fn one_connector() -> SharedHttpClient {
    let connector: OnceLock<SharedHttpConnector> = OnceLock::new();
    http_client_fn(move |settings, components| {
        connector
            .get_or_init(|| {
                aws_smithy_http_client::default_connector(settings, components.sleep_impl())
                    .expect("aws-config's default-https-client feature brings the connector")
            })
            .clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_ends_before_the_shortest_function_timeout() {
        let timeouts = timeouts();
        assert!(timeouts.operation_timeout() < Some(Duration::from_secs(60)));
        assert!(timeouts.operation_attempt_timeout() < timeouts.operation_timeout());
    }
}
