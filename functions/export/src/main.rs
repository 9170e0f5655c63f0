//! The Lambda function `export`.

use espalier_edge::serve;
use export::Export;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve::<Export>().await
}
