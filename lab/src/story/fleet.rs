//! The dashboard's view of the fleet: drawn by the deployed function, and shown on a page in CloudWatch's place.

use axum::Router;
use axum::extract::{Query, State};
use axum::response::Html;
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::watch::Watch;
use super::{STACK, StoryError, Tale};
use crate::ui::Phase;

/// What CloudWatch's page does around a widget: a click on what stands before a `cwdb-action` asks again.
const AROUND: &str = include_str!("fleet.html");

/// What it draws of a stack that was just provisioned.
pub(super) async fn drawn(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    let function = tale.function("fleet");
    let fleet = page(&tale.watch, &function, &json!({ "widgetContext": { "theme": "light" } })).await?;
    let targets = tale.world.hosts.len();
    expect(&fleet, &[&format!(">{STACK}<"), &format!("{targets} of {targets} target"), "<span>need somebody"])?;
    let stack = page(&tale.watch, &function, &json!({ "stack": STACK, "widgetContext": { "theme": "dark" } })).await?;
    for host in &tale.world.hosts {
        expect(&stack, &[&format!("<td>{}</td><td>current</td>", host.id)])?;
    }
    let about = page(&tale.watch, &function, &json!({ "describe": true })).await?;
    expect(&about, &["## Espalier"])?;
    phase.done(&format!("the fleet and {STACK} drawn for the dashboard by a function that can only read"));
    Ok(())
}

async fn page(watch: &Watch, function: &str, question: &Value) -> Result<String, StoryError> {
    let answer = watch.invoke(function, question).await?;
    answer.as_str().map(str::to_owned).ok_or_else(|| StoryError::Unmet(format!("`fleet` answers {answer}")))
}

fn expect(page: &str, wanted: &[&str]) -> Result<(), StoryError> {
    match wanted.iter().find(|wanted| !page.contains(**wanted)) {
        None => Ok(()),
        Some(missing) => Err(StoryError::Unmet(format!("`fleet` does not draw {missing:?}: {page}"))),
    }
}

/// What the page asks for.
#[derive(Debug, Deserialize)]
struct Asked {
    /// The parameters of the `cwdb-action` that was clicked, JSON; absent at first.
    ask: Option<String>,
    theme: Option<String>,
}

/// Serves the page on loopback for as long as the process lives; where.
pub(super) async fn serve(tale: &Tale) -> Result<String, StoryError> {
    let io = StoryError::io("serving the dashboard's page");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(io)?;
    let address = listener.local_addr().map_err(StoryError::io("serving the dashboard's page"))?;
    let pages = Router::new().route("/", get(answer)).with_state((tale.watch.clone(), tale.function("fleet")));
    tokio::spawn(async move { axum::serve(listener, pages).await });
    Ok(format!("http://{address}/"))
}

async fn answer(State((watch, function)): State<(Watch, String)>, Query(asked): Query<Asked>) -> Html<String> {
    let theme = if asked.theme.as_deref() == Some("dark") { "dark" } else { "light" };
    let mut question = asked.ask.and_then(|ask| serde_json::from_str(&ask).ok()).unwrap_or_else(|| json!({}));
    if let Some(fields) = question.as_object_mut() {
        fields.insert("widgetContext".to_owned(), json!({ "theme": theme }));
    }
    let drawn = page(&watch, &function, &question).await;
    let drawn = drawn.unwrap_or_else(|error| format!("<p>{}</p>", error.to_string().replace(['<', '&'], "?")));
    Html(AROUND.replace("THEME", theme).replace("WIDGET", &drawn))
}
