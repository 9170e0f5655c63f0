//! The Lambda function `authority`.

use authority::Authority;
use espalier_edge::serve;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve::<Authority>().await
}
