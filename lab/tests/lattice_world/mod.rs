//! A VPC Lattice stand-in on a small fixed network, spoken to over HTTP.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::needless_pass_by_value, reason = "calls read as calls")]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use espalier_lab::fabric::{Fabric, Instance, Network, Peer, Permission, PrefixList, SecurityGroup, Subnet};
use espalier_lab::lattice::rules::Rule;
use espalier_lab::lattice::{Lattice, Options};
use serde_json::{Value, json};

pub(crate) const TARGETS_VPC: &str = "vpc-0000000000000000a";
pub(crate) const CLIENTS_VPC: &str = "vpc-0000000000000000b";
pub(crate) const TARGETS_GROUP: &str = "sg-0000000000000000a";
pub(crate) const DOOR_GROUP: &str = "sg-0000000000000000b";

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
}

impl Said {
    pub(crate) fn ok(self) -> Value {
        assert!(self.status < 300, "{self:?}");
        self.body
    }

    /// Refused for exactly this documented reason, in the shape that the model gives the error.
    pub(crate) fn refused(self, rule: Rule) -> Value {
        let documented = rule.documented();
        let message = self.body["message"].as_str().unwrap_or_default();
        assert!(message.ends_with(&format!("[{rule:?}]")), "expected {rule:?} ({}): {self:?}", documented.source);
        assert_eq!((self.status, self.kind.as_str()), (documented.kind.status(), documented.kind.name()));
        let required: &[&str] = match self.kind.as_str() {
            "ValidationException" => &["reason", "fieldList"],
            "ConflictException" | "ResourceNotFoundException" => &["resourceId", "resourceType"],
            "ServiceQuotaExceededException" => &["resourceType", "serviceCode", "quotaCode"],
            _ => &[],
        };
        assert!(required.iter().all(|member| !self.body[member].is_null()), "{self:?}");
        self.body
    }
}

pub(crate) struct World {
    pub(crate) lattice: Lattice,
    pub(crate) fabric: Fabric,
    http: reqwest::Client,
}

fn instance(vpc: &str, address: &str, state: &str) -> Instance {
    let (vpc, state) = (vpc.to_owned(), state.to_owned());
    Instance {
        vpc,
        address: address.parse().unwrap(),
        groups: vec![TARGETS_GROUP.into()],
        state,
        tags: Default::default(),
    }
}

/// Two targets and a stopped one in the targets' VPC, one instance elsewhere; the targets' group admits the Lattice
/// prefix list only; the door group admits 127.1.0.10 only.
pub(crate) fn network(port: u16) -> Network {
    let rule = |peer| vec![Permission { ports: (port, port), peers: vec![peer] }];
    let everywhere = vec![Permission { ports: (0, u16::MAX), peers: vec![Peer::Block("0.0.0.0/0".parse().unwrap())] }];
    let group = |vpc: &str, ingress| SecurityGroup { vpc: vpc.into(), ingress, egress: everywhere.clone() };
    let mut network = Network::default();
    for (vpc, block) in
        [(TARGETS_VPC, "127.0.0.0/16"), (CLIENTS_VPC, "127.1.0.0/16"), ("vpc-0000000000000000c", "127.2.0.0/16")]
    {
        network.vpcs.insert(vpc.into(), vec![block.parse().unwrap()]);
    }
    let subnet = Subnet { vpc: TARGETS_VPC.into(), block: "127.0.1.0/24".parse().unwrap() };
    network.subnets.insert("subnet-1".into(), subnet);
    let blocks = vec!["169.254.171.0/24".parse().unwrap()];
    network
        .prefix_lists
        .insert("pl-1".into(), PrefixList { name: "com.amazonaws.eu-west-1.vpc-lattice".into(), blocks });
    network.groups.insert(TARGETS_GROUP.into(), group(TARGETS_VPC, rule(Peer::PrefixList("pl-1".into()))));
    network.groups.insert(DOOR_GROUP.into(), group(CLIENTS_VPC, rule(Peer::Block("127.1.0.10/32".parse().unwrap()))));
    network.instances.insert("i-1".into(), instance(TARGETS_VPC, "127.0.1.11", "running"));
    network.instances.insert("i-2".into(), instance(TARGETS_VPC, "127.0.1.12", "running"));
    network.instances.insert("i-stopped".into(), instance(TARGETS_VPC, "127.0.1.13", "stopped"));
    network.instances.insert("i-elsewhere".into(), instance(CLIENTS_VPC, "127.1.0.99", "running"));
    network
}

/// Everything happens at once.
pub(crate) fn at_once() -> Options {
    let none = Duration::ZERO;
    Options {
        create_delay: none,
        update_delay: none,
        delete_delay: none,
        register_delay: none,
        draining: none,
        ..Options::default()
    }
}

impl World {
    pub(crate) async fn with(options: Options) -> Self {
        Self::on(network(8443), options).await
    }

    pub(crate) async fn on(network: Network, options: Options) -> Self {
        let fabric = Fabric::fixed(network);
        let lattice = Lattice::start("127.0.0.1:0".parse().unwrap(), fabric.clone(), options).await.unwrap();
        Self { lattice, fabric, http: reqwest::Client::new() }
    }

    pub(crate) async fn new() -> Self {
        Self::with(at_once()).await
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> Said {
        let authorization = "AWS4-HMAC-SHA256 Credential=x/20260101/eu-west-1/vpc-lattice/aws4_request, SignedHeaders=host, Signature=0";
        self.raw(method, path, body.to_string(), Some(authorization)).await
    }

    pub(crate) async fn raw(&self, method: &str, path: &str, body: String, authorization: Option<&str>) -> Said {
        let url = format!("http://{}{path}", self.lattice.address());
        let mut request = self.http.request(method.parse().unwrap(), url);
        if method != "GET" && method != "DELETE" {
            request = request.body(body);
        }
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let answer = request.send().await.unwrap();
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (status, kind, retry_after) = (answer.status().as_u16(), header("x-amzn-errortype"), header("retry-after"));
        let text = answer.text().await.unwrap();
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
        assert!(self.lattice.faults().is_empty(), "{:?}", self.lattice.faults());
        Said { status, kind: kind.unwrap_or_default(), retry_after, body }
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Said {
        self.call("POST", path, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.call("GET", path, Value::Null).await.ok()
    }

    pub(crate) async fn delete(&self, path: &str) -> Said {
        self.call("DELETE", path, Value::Null).await
    }

    pub(crate) async fn service(&self, name: &str, domain: Option<&str>) -> String {
        let mut body = json!({"name": name});
        if let Some(domain) = domain {
            body["customDomainName"] = domain.into();
        }
        id(self.post("/services", body).await.ok())
    }

    pub(crate) async fn network(&self, name: &str) -> String {
        id(self.post("/servicenetworks", json!({"name": name})).await.ok())
    }

    pub(crate) fn group_body(&self, name: &str, protocol: &str) -> Value {
        json!({"name": name, "type": "INSTANCE", "config": {"protocol": protocol, "port": 8443, "vpcIdentifier": TARGETS_VPC}})
    }

    pub(crate) async fn group(&self, name: &str) -> String {
        id(self.post("/targetgroups", self.group_body(name, "TCP")).await.ok())
    }

    pub(crate) fn listener_body(&self, name: &str, protocol: &str, port: u16, group: &str) -> Value {
        json!({"name": name, "protocol": protocol, "port": port,
            "defaultAction": {"forward": {"targetGroups": [{"targetGroupIdentifier": group}]}}})
    }

    pub(crate) async fn listen(&self, service: &str, group: &str, port: u16) -> Said {
        let body = self.listener_body(&format!("tls-{port}"), "TLS_PASSTHROUGH", port, group);
        self.post(&format!("/services/{service}/listeners"), body).await
    }

    pub(crate) async fn register(&self, group: &str, targets: &[&str]) -> Value {
        let targets: Vec<Value> = targets.iter().map(|id| json!({"id": id})).collect();
        self.post(&format!("/targetgroups/{group}/registertargets"), json!({"targets": targets})).await.ok()
    }

    pub(crate) async fn statuses(&self, group: &str) -> Vec<(String, String)> {
        let listed = self.post(&format!("/targetgroups/{group}/listtargets"), json!({})).await.ok();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        listed["items"].as_array().unwrap().iter().map(|item| (text(&item["id"]), text(&item["status"]))).collect()
    }

    pub(crate) async fn associate_service(&self, network: &str, service: &str) -> Said {
        let body = json!({"serviceNetworkIdentifier": network, "serviceIdentifier": service});
        self.post("/servicenetworkserviceassociations", body).await
    }

    pub(crate) async fn associate_vpc(&self, network: &str, vpc: &str, groups: &[&str]) -> Said {
        let body = json!({"serviceNetworkIdentifier": network, "vpcIdentifier": vpc, "securityGroupIds": groups});
        self.post("/servicenetworkvpcassociations", body).await
    }
}

pub(crate) fn id(created: Value) -> String {
    created["id"].as_str().unwrap().to_owned()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Asks until the answer pleases, for at most five seconds.
pub(crate) async fn until<T, F: Future<Output = T>>(mut ask: impl FnMut() -> F, pleases: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let answer = ask().await;
        if pleases(&answer) || Instant::now() > deadline {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
