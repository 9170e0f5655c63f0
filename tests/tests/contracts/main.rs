//! What one part of the project promises another: the template and the functions, the roles and the calls, the
//! workflow and the template, the crates and the layers, the pages and the code. Each test names both sides when it
//! fails.

mod actions;
mod alarms;
mod declared;
mod edges;
mod environment;
mod layers;
mod named;
mod pages;
mod planted;
mod probers;
mod release;
mod roles;
mod specs;
mod tidy;
mod workflow;
