//! Deploying the user's network and the control plane, as a user would.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use serde_norway::Value as Yaml;

use super::StoryError;
use super::cli::Cli;
use super::world::World;
use crate::aws::{EXTERNAL_ID, OTHER_ACCOUNT};
use crate::setup::{self, Tools};
use crate::ui::Phase;

/// The control plane's CloudFormation stack.
pub const CONTROL_PLANE: &str = "espalier";

/// Where targets and listener answer: 443 needs root, this does not.
pub const PORT: u16 = 8443;

/// The network's CloudFormation stack.
const NETWORK: &str = "recipe-network";

const BUCKET: &str = "espalier-lab-artifacts";

/// The operator's own bucket, and in it the template's parameter `TrustObject`.
pub const CLIENTS_BUCKET: &str = "espalier-lab-clients";

/// The key of the bundle's copy there.
pub const BUNDLE_KEY: &str = "pki/espalier.pem";

/// Deploys `examples/recipe-network.yaml`; its outputs.
pub async fn network(world: &World, workspace: &Path) -> Result<BTreeMap<String, String>, StoryError> {
    let template = workspace.join("examples/recipe-network.yaml");
    // The network's CloudFormation is moto's, which knows EC2, IAM and Route 53.
    let aws = world.aws().with("AWS_ENDPOINT_URL_CLOUDFORMATION", &world.moto);
    let body = format!("file://{}", template.display());
    // `create-stack` and not `deploy`: moto fills in a stack's outputs only without a change set.
    let mut create = vec!["cloudformation", "create-stack", "--stack-name", NETWORK, "--template-body", &body];
    create.extend(["--capabilities", "CAPABILITY_IAM", "--parameters"]);
    let port = PORT.to_string();
    let parameters: Vec<String> = [
        ("VpcCidr", "127.0.0.0/16"),
        ("SubnetACidr", "127.0.1.0/24"),
        ("SubnetBCidr", "127.0.2.0/24"),
        ("ConsumerVpcCidr", "127.1.0.0/16"),
        ("ConsumerSubnetCidr", "127.1.1.0/24"),
        ("WithEndpoints", "false"),
        ("ServicePort", &port),
        ("TargetPort", &port),
    ]
    .iter()
    .map(|(name, value)| format!("ParameterKey={name},ParameterValue={value}"))
    .collect();
    create.extend(parameters.iter().map(String::as_str));
    aws.run(&create).await?;
    let outputs = outputs(&aws, NETWORK).await?;
    complete(world, &outputs).await?;
    Ok(outputs)
}

/// What the template says and moto's CloudFormation leaves out: DNS attributes of VPCs, security groups of instances.
async fn complete(world: &World, network: &BTreeMap<String, String>) -> Result<(), StoryError> {
    let aws = world.aws();
    for vpc in ["VpcId", "ConsumerVpcId"] {
        let vpc = output(network, vpc)?;
        for attribute in ["--enable-dns-support", "--enable-dns-hostnames"] {
            let on = ["ec2", "modify-vpc-attribute", "--vpc-id", vpc, attribute, r#"{"Value":true}"#];
            aws.run(&on).await?;
        }
    }
    let group = output(network, "TargetGroupId")?;
    let described = aws.run(&["ec2", "describe-instances", "--output", "json"]).await?;
    let interfaces = described["Reservations"].as_array().into_iter().flatten();
    let interfaces = interfaces.flat_map(|one| one["Instances"].as_array().into_iter().flatten());
    for instance in interfaces {
        let interface = instance["NetworkInterfaces"][0]["NetworkInterfaceId"].as_str().unwrap_or_default();
        let set = ["ec2", "modify-network-interface-attribute", "--network-interface-id", interface, "--groups", group];
        aws.run(&set).await?;
    }
    Ok(())
}

/// Runs more instances like the recipe's, as their owner would: the same image, subnet, group and tag. Their ids.
pub async fn instances(
    world: &World,
    network: &BTreeMap<String, String>,
    name: &str,
    count: usize,
) -> Result<Vec<String>, StoryError> {
    let aws = world.aws();
    let described = aws.run(&["ec2", "describe-instances", "--output", "json"]).await?;
    let image = described["Reservations"][0]["Instances"][0]["ImageId"].as_str().unwrap_or_default();
    let subnets = output(network, "SubnetIds")?;
    let subnet = subnets.split(',').next().unwrap_or(subnets);
    let tags =
        format!("ResourceType=instance,Tags=[{{Key=Name,Value={name}}},{{Key=espalier:stack,Value={}}}]", super::STACK);
    let count = count.to_string();
    let mut run = vec!["ec2", "run-instances", "--count", &count, "--instance-type", "t3.micro", "--subnet-id", subnet];
    run.extend(["--image-id", image, "--security-group-ids", output(network, "TargetGroupId")?]);
    run.extend(["--tag-specifications", &tags, "--output", "json"]);
    let ran = aws.run(&run).await?;
    let ids = ran["Instances"].as_array().into_iter().flatten().filter_map(|one| one["InstanceId"].as_str());
    let ids: Vec<String> = ids.map(str::to_owned).collect();
    if ids.is_empty() { Err(StoryError::Unmet(format!("EC2 ran no instance: {ran}"))) } else { Ok(ids) }
}

/// Deploys the project's own template with plain cargo builds; its outputs.
pub async fn control_plane(
    world: &World,
    workspace: &Path,
    binaries: &Path,
    parameters: &[String],
) -> Result<BTreeMap<String, String>, StoryError> {
    let stage = world.run.join("stage");
    stage_template(workspace, "template.yaml", binaries, &stage)?;
    bucket(world, BUCKET).await?;
    submit(world, &stage, parameters).await?;
    outputs(&world.aws(), CONTROL_PLANE).await
}

/// Makes a bucket.
pub async fn bucket(world: &World, name: &str) -> Result<(), StoryError> {
    let place = ["--create-bucket-configuration", "LocationConstraint=eu-west-1"];
    world.aws().run(&[&["s3api", "create-bucket", "--bucket", name], place.as_slice()].concat()).await?;
    Ok(())
}

/// Locks the evidence's bucket as the template asks for by default: the emulator's CloudFormation leaves that out.
pub async fn lock_evidence(world: &World, plane: &BTreeMap<String, String>) -> Result<(), StoryError> {
    let lock = r#"{"ObjectLockEnabled":"Enabled","Rule":{"DefaultRetention":{"Mode":"GOVERNANCE","Days":400}}}"#;
    let bucket = output(plane, "EvidenceBucket")?;
    let put = ["s3api", "put-object-lock-configuration", "--bucket", bucket, "--object-lock-configuration", lock];
    world.aws().run(&put).await?;
    Ok(())
}

/// Deploys `prober.yaml` with the binary of the control plane's own prober; its outputs.
pub async fn prober(
    world: &World,
    workspace: &Path,
    stack: &str,
    parameters: &[String],
) -> Result<BTreeMap<String, String>, StoryError> {
    let (binaries, stage) = (world.run.join("binaries"), world.run.join(stack));
    let own = world.run.join("stage/code/verify/bootstrap");
    std::fs::create_dir_all(&binaries).map_err(StoryError::io("the prober's binary"))?;
    std::fs::copy(own, binaries.join("verify")).map_err(StoryError::io("the prober's binary"))?;
    stage_template(workspace, "prober.yaml", &binaries, &stage)?;
    submit_as(world, &stage, stack, parameters).await?;
    outputs(&world.aws(), stack).await
}

/// Packages the control plane as it is staged, and deploys it; what the CLI says.
pub async fn submit(world: &World, stage: &Path, parameters: &[String]) -> Result<String, StoryError> {
    submit_as(world, stage, CONTROL_PLANE, parameters).await
}

/// Packages what is staged, and deploys it as this CloudFormation stack; what the CLI says.
async fn submit_as(world: &World, stage: &Path, stack: &str, parameters: &[String]) -> Result<String, StoryError> {
    let aws = world.aws();
    let (template, packaged) = (stage.join("template.yaml"), stage.join("packaged.yaml"));
    let (template, packaged) = (template.to_string_lossy(), packaged.to_string_lossy());
    let package = [
        "cloudformation",
        "package",
        "--template-file",
        &template,
        "--s3-bucket",
        BUCKET,
        "--output-template-file",
        &packaged,
    ];
    aws.run(&package).await?;
    let mut deploy = vec!["cloudformation", "deploy", "--stack-name", stack, "--template-file", &packaged];
    deploy.extend(["--s3-bucket", BUCKET, "--capabilities", "CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"]);
    deploy.extend(["CAPABILITY_AUTO_EXPAND", "--no-fail-on-empty-changeset", "--parameter-overrides"]);
    deploy.extend(parameters.iter().map(String::as_str));
    Ok(aws.run(&deploy).await?.as_str().unwrap_or_default().to_owned())
}

/// What a deployment says that finds everything as it is.
pub fn unchanged(said: &str) -> Result<(), StoryError> {
    if said.contains("No changes to deploy") {
        return Ok(());
    }
    Err(StoryError::Unmet(format!("deploying the same again changes something: {said}")))
}

/// The same through the real SAM CLI: `sam build` and `sam deploy`.
pub async fn control_plane_by_sam(
    world: &World,
    workspace: &Path,
    sam: &Tools,
    parameters: &[String],
    phase: &Phase,
) -> Result<BTreeMap<String, String>, StoryError> {
    let build = world.run.join("sam");
    setup::sam_build(sam, workspace, &build, phase).await?;
    let template = build.join("template.yaml");
    definitions_as_json(&template, workspace, &build)?;
    let template = template.to_string_lossy();
    let command = Cli::new(&sam.path("sam"), &world.run, world.gateway.endpoints());
    let mut deploy = vec!["deploy", "--stack-name", CONTROL_PLANE, "--template-file", &template, "--resolve-s3"];
    deploy.extend(["--capabilities", "CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]);
    deploy.extend([
        "--no-confirm-changeset",
        "--no-fail-on-empty-changeset",
        "--no-progressbar",
        "--parameter-overrides",
    ]);
    deploy.extend(parameters.iter().map(String::as_str));
    phase.progress("sam deploy");
    command.run(&deploy).await?;
    phase.progress("sam deploy, again");
    unchanged(command.run(&deploy).await?.as_str().unwrap_or_default())?;
    outputs(&world.aws(), CONTROL_PLANE).await
}

/// The template's parameters that have no default, or not the one that this world needs.
pub fn parameters(network: &BTreeMap<String, String>, custody: &str, watched: &str) -> Result<Vec<String>, StoryError> {
    Ok(vec![
        "AllowedDomains=example.com".to_owned(),
        format!("ProberSubnetIds={}", output(network, "SubnetIds")?),
        format!("ProberSecurityGroupIds={}", output(network, "ProberGroupId")?),
        format!("CustodyOfAuthority={custody}"),
        // The next authority's keys are there, too, on the other curve, and one client has to be asked before it signs.
        "KeysOfAuthority=both".to_owned(),
        "SpecOfSecondKeys=ECC_NIST_P384".to_owned(),
        format!("TrustVerifiers={}", super::succession::SLOW),
        format!("TrustObject={CLIENTS_BUCKET}/{BUNDLE_KEY}"),
        "LedgerDeletionProtection=false".to_owned(),
        format!("WatchedCertificateArn={watched}"),
        format!("CertificateAccountIds={OTHER_ACCOUNT}"),
        format!("CertificateExternalId={EXTERNAL_ID}"),
        format!("Architecture={}", if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" }),
    ])
}

/// The next release of what was staged: other code in each function's package, and another definition of the workflow.
pub fn next_release(stage: &Path) -> Result<(), StoryError> {
    let making = "making a next release";
    for code in std::fs::read_dir(stage.join("code")).map_err(StoryError::io(making))? {
        let code = code.map_err(StoryError::io(making))?.path();
        std::fs::write(code.join("release.txt"), "the next one").map_err(StoryError::io(making))?;
    }
    let definition = stage.join("definition.asl.json");
    let text = std::fs::read_to_string(&definition).map_err(StoryError::io(making))?;
    let mut workflow: Value = serde_json::from_str(&text).map_err(StoryError::boxed(making))?;
    workflow["Comment"] = "the next release".into();
    std::fs::write(definition, workflow.to_string()).map_err(StoryError::io(making))
}

/// What `sam build` does, without building: each function's `CodeUri` becomes the directory of its `bootstrap`.
fn stage_template(workspace: &Path, name: &str, binaries: &Path, stage: &Path) -> Result<(), StoryError> {
    let text = std::fs::read_to_string(workspace.join(name)).map_err(StoryError::io("reading a template"))?;
    std::fs::create_dir_all(stage).map_err(StoryError::io("the stage's directory"))?;
    let mut template: Yaml = serde_norway::from_str(&text).map_err(StoryError::boxed("parsing a template"))?;
    let resources = template.get_mut("Resources").and_then(Yaml::as_mapping_mut);
    for (_, resource) in resources.into_iter().flatten() {
        stage_resource(resource, workspace, binaries, stage)?;
    }
    let text = serde_norway::to_string(&template).map_err(StoryError::boxed("writing the staged template"))?;
    std::fs::write(stage.join("template.yaml"), text).map_err(StoryError::io("writing the staged template"))
}

fn stage_resource(resource: &mut Yaml, workspace: &Path, binaries: &Path, stage: &Path) -> Result<(), StoryError> {
    let copying = "laying out the functions";
    stage_definition(resource, workspace, stage)?;
    if resource.get("Type").and_then(Yaml::as_str) != Some("AWS::Serverless::Function") {
        return Ok(());
    }
    let binary = resource
        .get("Metadata")
        .and_then(|metadata| metadata.get("BuildProperties"))
        .and_then(|build| build.get("Binary"))
        .and_then(Yaml::as_str)
        .ok_or_else(|| StoryError::Unmet("a function of the template names no Binary".to_owned()))?;
    let code = stage.join("code").join(binary);
    std::fs::create_dir_all(&code).map_err(StoryError::io(copying))?;
    std::fs::copy(binaries.join(binary), code.join("bootstrap")).map_err(StoryError::io(copying))?;
    set_property(resource, "CodeUri", &code);
    Ok(())
}

/// What `sam build` made, with definitions as JSON.
fn definitions_as_json(template: &Path, workspace: &Path, stage: &Path) -> Result<(), StoryError> {
    let text = std::fs::read_to_string(template).map_err(StoryError::io("reading what sam build made"))?;
    let mut built: Yaml = serde_norway::from_str(&text).map_err(StoryError::boxed("parsing what sam build made"))?;
    let resources = built.get_mut("Resources").and_then(Yaml::as_mapping_mut);
    for (_, resource) in resources.into_iter().flatten() {
        stage_definition(resource, workspace, stage)?;
    }
    let text = serde_norway::to_string(&built).map_err(StoryError::boxed("writing what sam build made"))?;
    std::fs::write(template, text).map_err(StoryError::io("writing what sam build made"))
}

fn stage_definition(resource: &mut Yaml, workspace: &Path, stage: &Path) -> Result<(), StoryError> {
    if resource.get("Type").and_then(Yaml::as_str) != Some("AWS::Serverless::StateMachine") {
        return Ok(());
    }
    let definition = resource.get("Properties").and_then(|properties| properties.get("DefinitionUri"));
    let Some(path) = definition.and_then(Yaml::as_str).map(Path::new) else { return Ok(()) };
    // `sam build` writes paths relative to its own template; both lead to the one workflow of this name.
    let source = path.file_name().map(|name| workspace.join("workflows").join(name));
    let Some(source) = source else { return Ok(()) };
    let staged = stage.join("definition.asl.json");
    as_json(&source, &staged)?;
    set_property(resource, "DefinitionUri", &staged);
    Ok(())
}

/// SAM takes a state machine's definition as YAML or JSON; MiniStack keeps it as it comes and runs only JSON.
fn as_json(yaml: &Path, json: &Path) -> Result<(), StoryError> {
    let text = std::fs::read_to_string(yaml).map_err(StoryError::io("reading the state machine's definition"))?;
    let definition: Value =
        serde_norway::from_str(&text).map_err(StoryError::boxed("parsing the state machine's definition"))?;
    std::fs::write(json, definition.to_string()).map_err(StoryError::io("writing the state machine's definition"))
}

fn set_property(resource: &mut Yaml, name: &str, path: &Path) {
    if let Some(properties) = resource.get_mut("Properties").and_then(Yaml::as_mapping_mut) {
        properties.insert(Yaml::from(name), Yaml::from(path.to_string_lossy().into_owned()));
    }
}

pub(super) async fn outputs(aws: &Cli, stack: &str) -> Result<BTreeMap<String, String>, StoryError> {
    let ask = ["cloudformation", "describe-stacks", "--stack-name", stack, "--output", "json"];
    let answer = aws.run(&ask).await?;
    let outputs = answer["Stacks"][0]["Outputs"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(outputs.iter().map(|output| (text(&output["OutputKey"]), text(&output["OutputValue"]))).collect())
}

/// An output that has to be there.
pub fn output<'a>(outputs: &'a BTreeMap<String, String>, name: &str) -> Result<&'a str, StoryError> {
    outputs
        .get(name)
        .map(String::as_str)
        .ok_or_else(|| StoryError::Unmet(format!("the template has no output {name}: {outputs:?}")))
}

/// The recipe's spec with this world's ids and ports.
pub fn spec(
    world: &World,
    workspace: &Path,
    network: &BTreeMap<String, String>,
    certificate: &str,
) -> Result<Value, StoryError> {
    let text = std::fs::read_to_string(workspace.join("examples/recipe.json"))
        .map_err(StoryError::io("reading examples/recipe.json"))?;
    let mut spec: Value = serde_json::from_str(&text).map_err(StoryError::boxed("parsing examples/recipe.json"))?;
    let get = |name: &str| output(network, name).map(str::to_owned);
    let subnets: Vec<String> = get("SubnetIds")?.split(',').map(str::to_owned).collect();
    spec["network"] = serde_json::json!({
        "vpcId": get("VpcId")?,
        "subnetIds": subnets,
        "consumers": [
            {"vpcId": get("VpcId")?, "securityGroupIds": [get("ProberAssociationGroupId")?]},
            {"vpcId": get("ConsumerVpcId")?, "securityGroupIds": [get("ConsumerAssociationGroupId")?]},
        ],
    });
    spec["service"]["port"] = PORT.into();
    spec["service"]["dns"]["hostedZoneId"] = get("ZoneId")?.trim_start_matches("/hostedzone/").into();
    spec["targets"]["port"] = PORT.into();
    spec["targets"]["securityGroupId"] = get("TargetGroupId")?.into();
    spec["certificate"]["follow"]["certificateArn"] = certificate.into();
    spec["prober"]["securityGroupId"] = get("ProberGroupId")?.into();
    spec["prober"]["resolver"] = world.dns.address().to_string().into();
    Ok(spec)
}

/// The workspace this binary was built from, or the one it is run in.
pub fn workspace() -> Result<PathBuf, StoryError> {
    let here = std::env::current_dir().map_err(StoryError::io("finding the workspace"))?;
    here.ancestors()
        .find(|directory| directory.join("template.yaml").exists() && directory.join("lab").is_dir())
        .map(Path::to_owned)
        .ok_or_else(|| StoryError::Unmet("run the lab inside Espalier's repository".to_owned()))
}
