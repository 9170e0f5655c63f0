//! The Lambda function `mint`.

use espalier_edge::serve;
use mint::Mint;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve::<Mint>().await
}
