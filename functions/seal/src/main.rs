//! The Lambda function `seal`.

use espalier_edge::serve;
use seal::Seal;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve::<Seal>().await
}
