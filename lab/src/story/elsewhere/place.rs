//! The second VPC as its owner makes it: subnet, groups and instances by the AWS CLI, and the prober by `prober.yaml`.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};
use serde_norway::Value as Yaml;

use super::super::deploy::{self, PORT, output};
use super::super::look::{LIMIT, PAUSE};
use super::super::watch::until;
use super::super::{Options, Server, StoryError, Tale};
use super::{DOMAIN, FAR, NAME};
use crate::fabric::Instance;

/// Where its prober has its interface.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 4, 1, 250));

/// The prober's CloudFormation stack.
const STACK: &str = "espalier-prober-east";

/// What there is.
pub(super) struct Place {
    vpc: String,
    subnet: String,
    targets: String,
    prober: String,
    association: String,
    instances: Vec<String>,
    /// The prober's deployed name.
    pub(super) function: String,
}

impl Place {
    /// Makes the VPC with two instances, boots them, and deploys the prober into it.
    pub(super) async fn make(tale: &mut Tale, options: &Options) -> Result<Self, StoryError> {
        let vpc = made(tale, &["create-vpc", "--cidr-block", "127.4.0.0/16"], "/Vpc/VpcId").await?;
        for attribute in ["--enable-dns-support", "--enable-dns-hostnames"] {
            let on = ["ec2", "modify-vpc-attribute", "--vpc-id", &vpc, attribute, r#"{"Value":true}"#];
            tale.world.aws().run(&on).await?;
        }
        let subnet = ["create-subnet", "--vpc-id", &vpc, "--cidr-block", "127.4.1.0/24"];
        let subnet = made(tale, &subnet, "/Subnet/SubnetId").await?;
        let targets = group(tale, &vpc, "far-targets", Some(FAR)).await?;
        let prober = group(tale, &vpc, "far-prober", None).await?;
        let association = group(tale, &vpc, "far-association", None).await?;
        let port = PORT.to_string();
        let admit = ["ec2", "authorize-security-group-ingress", "--group-id", &association, "--protocol", "tcp"];
        tale.world.aws().run(&[&admit[..], &["--port", &port, "--source-group", &prober]].concat()).await?;
        let instances = launched(tale, &subnet, &targets).await?;
        booted(tale, options, &instances).await?;
        let function = deployed(tale, &vpc, &subnet, &prober).await?;
        Ok(Self { vpc, subnet, targets, prober, association, instances, function })
    }

    /// The recipe's spec for the stack here, whose own VPC is its only consumer.
    pub(super) fn spec(&self, tale: &Tale, certificate: &str) -> Result<Value, StoryError> {
        let mut spec = deploy::spec(&tale.world, &deploy::workspace()?, &tale.network, certificate)?;
        spec["stack"] = FAR.into();
        spec["network"] = json!({
            "vpcId": self.vpc,
            "subnetIds": [self.subnet],
            "consumers": [{"vpcId": self.vpc, "securityGroupIds": [self.association]}],
        });
        spec["service"]["domainName"] = DOMAIN.into();
        spec["certificate"]["dnsNames"] = json!([DOMAIN]);
        spec["targets"]["securityGroupId"] = self.targets.clone().into();
        spec["targets"]["select"] = json!({"tag": {"key": "espalier:stack", "value": FAR}});
        spec["prober"]["name"] = NAME.into();
        spec["prober"]["securityGroupId"] = self.prober.clone().into();
        Ok(spec)
    }

    /// How many targets there are.
    pub(super) fn hosts(&self) -> usize {
        self.instances.len()
    }

    /// How often the prober was called.
    pub(super) async fn calls(&self, tale: &Tale) -> Result<usize, StoryError> {
        let log = tale.watch.log(&self.function).await?;
        Ok(log.iter().filter(|line| line.starts_with("REPORT ")).count())
    }

    /// How many of the targets admit a caller at this address.
    pub(super) async fn reached_from(&self, tale: &Tale, address: IpAddr) -> Result<usize, StoryError> {
        let mut reached = 0;
        for instance in &self.instances {
            reached += usize::from(tale.world.fabric.admits(address, instance, PORT).await.is_ok());
        }
        Ok(reached)
    }

    /// Takes the prober and the instances away.
    pub(super) async fn leave(&self, tale: &mut Tale) -> Result<(), StoryError> {
        let aws = tale.world.aws();
        aws.run(&["cloudformation", "delete-stack", "--stack-name", STACK]).await?;
        let mut terminate = vec!["ec2", "terminate-instances", "--instance-ids"];
        terminate.extend(self.instances.iter().map(String::as_str));
        aws.run(&terminate).await?;
        self.instances.iter().for_each(|id| tale.world.retire(id));
        tale.world.fabric.displace(&self.function);
        Ok(())
    }
}

/// What EC2 answers to a creation, at this pointer.
async fn made(tale: &Tale, create: &[&str], pointer: &str) -> Result<String, StoryError> {
    let made = tale.world.aws().run(&[&["ec2"], create, &["--output", "json"]].concat()).await?;
    let id = made.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    id.ok_or_else(|| StoryError::Unmet(format!("EC2 made nothing: {made}")))
}

/// A security group; tagged, if its rules are to be Espalier's.
async fn group(tale: &Tale, vpc: &str, name: &str, stack: Option<&str>) -> Result<String, StoryError> {
    let create = ["create-security-group", "--vpc-id", vpc, "--group-name", name, "--description", name];
    let group = made(tale, &create, "/GroupId").await?;
    if let Some(stack) = stack {
        let tag = format!("Key=espalier:stack,Value={stack}");
        tale.world.aws().run(&["ec2", "create-tags", "--resources", &group, "--tags", &tag]).await?;
    }
    Ok(group)
}

/// Two instances like the recipe's; their ids.
async fn launched(tale: &Tale, subnet: &str, group: &str) -> Result<Vec<String>, StoryError> {
    let aws = tale.world.aws();
    let described = aws.run(&["ec2", "describe-instances", "--output", "json"]).await?;
    let image = described["Reservations"][0]["Instances"][0]["ImageId"].as_str().unwrap_or_default();
    let tags = format!("ResourceType=instance,Tags=[{{Key=espalier:stack,Value={FAR}}}]");
    let mut run = vec!["ec2", "run-instances", "--count", "2", "--instance-type", "t3.micro", "--image-id", image];
    run.extend(["--subnet-id", subnet, "--security-group-ids", group, "--tag-specifications", &tags]);
    run.extend(["--output", "json"]);
    let ran = aws.run(&run).await?;
    let ids = ran["Instances"].as_array().into_iter().flatten().filter_map(|one| one["InstanceId"].as_str());
    Ok(ids.map(str::to_owned).collect())
}

/// Gives each a server, once the network knows of it.
async fn booted(tale: &mut Tale, options: &Options, ids: &[String]) -> Result<(), StoryError> {
    let known = until(LIMIT, PAUSE, async || {
        let network = tale.world.fabric.network().await.map_err(StoryError::boxed("reading the instances"))?;
        let known: Vec<(String, Instance)> =
            ids.iter().filter_map(|id| Some((id.clone(), network.instances.get(id)?.clone()))).collect();
        Ok::<_, StoryError>((known.len() == ids.len()).then_some(known))
    });
    let known = known.await?.ok_or_else(|| StoryError::Unmet(format!("EC2 does not know {ids:?}")))?;
    for (index, (id, instance)) in known.into_iter().enumerate() {
        let server = options.servers.get(index % options.servers.len().max(1)).copied().unwrap_or(Server::Lab);
        tale.world.boot(server, id, &instance, FAR, PORT).await?;
    }
    Ok(())
}

/// Deploys the prober. What its template makes of the parameters decides where it stands and what it carries.
async fn deployed(tale: &Tale, vpc: &str, subnet: &str, group: &str) -> Result<String, StoryError> {
    let world = &tale.world;
    let parameters = [
        format!("ControlPlane={}", deploy::CONTROL_PLANE),
        format!("ProberName={NAME}"),
        format!("ProberSubnetIds={subnet}"),
        format!("ProberSecurityGroupIds={group}"),
        format!("NotificationTopicArn={}", output(&tale.plane, "NotificationTopic")?),
        format!("Architecture={}", if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" }),
    ];
    let outputs = deploy::prober(world, &deploy::workspace()?, STACK, &parameters).await?;
    let function = output(&outputs, "VerifyFunction")?.to_owned();
    let (subnets, groups) = placed(tale, "SubnetIds", "SecurityGroupIds").await?;
    if subnets != [subnet] {
        return Err(StoryError::Unmet(format!("{function} stands elsewhere: {subnets:?}")));
    }
    world.attach(ADDRESS, vpc, &groups);
    world.fabric.place(&world.processes, &function, ADDRESS);
    Ok(function)
}

/// These two parts of the function's VPC, as template and parameters were deployed: MiniStack's function does not know them.
async fn placed(tale: &Tale, one: &str, other: &str) -> Result<(Vec<String>, Vec<String>), StoryError> {
    let packaged = tale.world.run.join(STACK).join("packaged.yaml");
    let text = std::fs::read_to_string(packaged).map_err(StoryError::io("reading what was deployed"))?;
    let template: Yaml = serde_norway::from_str(&text).map_err(StoryError::boxed("parsing what was deployed"))?;
    let place = ["Resources", "Verify", "Properties", "VpcConfig"];
    let place = place.iter().try_fold(&template, |part, key| part.get(key));
    let described = ["cloudformation", "describe-stacks", "--stack-name", STACK, "--output", "json"];
    let described = tale.world.aws().run(&described).await?;
    let parameters = described["Stacks"][0]["Parameters"].as_array().cloned().unwrap_or_default();
    let given = |key: &str| {
        let name = place?.get(key)?.get("Ref")?.as_str()?;
        let found = parameters.iter().find(|one| one["ParameterKey"] == name)?;
        Some(found["ParameterValue"].as_str()?.split(',').map(str::to_owned).collect::<Vec<_>>())
    };
    let [one, other] = [one, other].map(given);
    one.zip(other)
        .ok_or_else(|| StoryError::Unmet(format!("the prober's template puts it nowhere: {place:?}, {parameters:?}")))
}
