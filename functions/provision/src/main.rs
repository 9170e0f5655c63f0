//! The Lambda function `provision`.

use espalier_edge::serve;
use provision::Provision;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve::<Provision>().await
}
