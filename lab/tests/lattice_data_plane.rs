//! Real TLS connections from lab clients through DNS, the data plane and the targets' interfaces to real servers.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod lattice_world;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use espalier_lab::client::load::{Aim, Load, LoadReport, Pace};
use espalier_lab::client::press::Press;
use espalier_lab::client::{Client, ClientError};
use espalier_lab::dns::{self, Dns};
use espalier_lab::eni::Eni;
use espalier_lab::fabric::Attachment;
use espalier_lab::lattice::Options;
use lattice_world::{CLIENTS_VPC, DOOR_GROUP, TARGETS_VPC, World, at_once, id, ip, network, until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

const HOST: &str = "api.example.com";

/// A server of a target: answers every request with the instance's id.
struct Guest {
    address: SocketAddr,
    task: AbortHandle,
}

/// Targets i-1 and i-2 behind a service on a free port, with DNS.
struct Estate {
    world: World,
    port: u16,
    service: String,
    network: String,
    group: String,
    association: String,
    roots: String,
    guests: BTreeMap<&'static str, Guest>,
    _interfaces: Vec<Eni>,
    dns: Dns,
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

async fn guest(name: &'static str, authority: &CertifiedIssuer<'static, KeyPair>) -> Guest {
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![HOST.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = config.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap();
    let (socket, acceptor) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), TlsAcceptor::from(Arc::new(config)));
    let address = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = socket.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await.ok()?;
                let mut request = [0_u8; 1024];
                let _length = stream.read(&mut request).await.ok()?;
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                stream.write_all(answer.as_bytes()).await.ok()?;
                stream.shutdown().await.ok()
            });
        }
    });
    Guest { address, task: task.abort_handle() }
}

/// Route 53 with one zone that holds an alias to `target`, and a zone apex without an address.
async fn route53(target: String) -> String {
    let zones =
        "<R><HostedZones><HostedZone><Id>/hostedzone/Z1</Id><Name>example.com.</Name></HostedZone></HostedZones></R>";
    let records = format!(
        "<R><ResourceRecordSets><ResourceRecordSet><Name>example.com.</Name><Type>NS</Type></ResourceRecordSet>\
         <ResourceRecordSet><Name>{HOST}.</Name><Type>A</Type><AliasTarget><HostedZoneId>Z2</HostedZoneId>\
         <DNSName>{target}.</DNSName></AliasTarget></ResourceRecordSet></ResourceRecordSets></R>"
    );
    let router = Router::new()
        .route("/2013-04-01/hostedzone", get(move || async move { zones }))
        .route("/2013-04-01/hostedzone/Z1/rrset", get(move || async move { records }));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(socket, router).await });
    format!("http://{address}")
}

impl Estate {
    async fn new(options: Options) -> Self {
        let port = free_port().await;
        let world = World::on(network(port), options).await;
        let authority = authority();
        let mut guests = BTreeMap::new();
        let mut interfaces = Vec::new();
        for (name, address) in [("i-1", "127.0.1.11"), ("i-2", "127.0.1.12")] {
            let guest = guest(name, &authority).await;
            let listen = SocketAddr::new(ip(address), port);
            interfaces.push(Eni::start(world.fabric.clone(), name, listen, guest.address).await.unwrap());
            guests.insert(name, guest);
        }
        let service = world.service("api", Some(HOST)).await;
        let mut body = world.group_body("tcp", "TCP");
        body["config"]["port"] = port.into();
        let group = id(world.post("/targetgroups", body).await.ok());
        world.register(&group, &["i-1", "i-2"]).await;
        world.listen(&service, &group, port).await.ok();
        let network = world.network("net").await;
        world.associate_service(&network, &service).await.ok();
        let association = id(world.associate_vpc(&network, CLIENTS_VPC, &[DOOR_GROUP]).await.ok());
        let read = world.get(&format!("/services/{service}")).await;
        let alias = read["dnsEntry"]["domainName"].as_str().unwrap().to_owned();
        let (lattice, zones) = (world.lattice.clone(), route53(alias).await);
        let dns = Dns::start("127.0.0.1:0".parse().unwrap(), lattice, &zones, world.fabric.clone()).await.unwrap();
        let roots = authority.pem();
        Self { world, port, service, network, group, association, roots, guests, _interfaces: interfaces, dns }
    }

    fn client(&self, from: &str) -> Client {
        Client::new(ip(from), self.dns.address(), &self.roots, Duration::from_millis(700)).unwrap()
    }

    async fn answer(&self, from: &str) -> Result<String, ClientError> {
        self.client(from).get(HOST, self.port, "/").await.map(|served| served.body)
    }

    fn events(&self, what: &str) -> u64 {
        self.world.lattice.event_counts().get(what).copied().unwrap_or_default()
    }
}

#[tokio::test]
async fn a_client_in_the_associated_vpc_reaches_every_target_and_verifies_it() {
    let estate = Estate::new(at_once()).await;
    let client = estate.client("127.1.0.10");
    let (mut bodies, mut serials) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..20 {
        let served = client.get(HOST, estate.port, "/").await.unwrap();
        assert_eq!(served.status, 200);
        assert_eq!(served.address.ip(), ip("127.171.0.2"));
        *bodies.entry(served.body.clone()).or_insert(0) += 1;
        serials.insert(served.body, (served.serial, served.fingerprint));
    }
    assert_eq!(bodies, BTreeMap::from([("i-1".to_owned(), 10), ("i-2".to_owned(), 10)]));
    // Each target presented its own leaf: nothing on the way ended TLS.
    assert_ne!(serials["i-1"], serials["i-2"]);
    let opened: u64 = estate.world.lattice.connections().iter().map(|target| target.opened).sum();
    assert_eq!(opened, 20);
}

#[tokio::test]
async fn who_is_not_admitted_hears_nothing() {
    let estate = Estate::new(at_once()).await;
    // In the VPC but not admitted by the association's group; in a VPC without association; in no VPC.
    for from in ["127.1.0.11", "127.2.0.10", "127.9.0.1"] {
        let refused = estate.answer(from).await.unwrap_err();
        assert!(matches!(refused, ClientError::TimedOut("handshake")), "{from}: {refused:?}");
    }
    // Targets are reached through VPC Lattice only, not by neighbours and not from other VPCs.
    for from in ["127.0.0.77", "127.1.0.10"] {
        let client = estate.client(from);
        let target = SocketAddr::new(ip("127.0.1.11"), estate.port);
        let refused = client.get_at(target, HOST, "/").await.unwrap_err();
        assert!(matches!(refused, ClientError::TimedOut("handshake")), "{from}: {refused:?}");
    }
    assert_eq!(estate.events("NotAdmitted"), 3);
    assert!(estate.answer("127.1.0.10").await.is_ok());
}

#[tokio::test]
async fn a_security_group_admits_the_prober_once_it_names_its_group() {
    let estate = Estate::new(at_once()).await;
    let groups = vec!["sg-prober".to_owned()];
    estate.world.fabric.attach(Attachment { address: ip("127.0.0.77"), vpc: TARGETS_VPC.into(), groups });
    let target = SocketAddr::new(ip("127.0.1.11"), estate.port);
    let prober = estate.client("127.0.0.77");
    assert!(prober.get_at(target, HOST, "/").await.is_err());

    let mut changed = network(estate.port);
    let targets = changed.groups.get_mut(lattice_world::TARGETS_GROUP).unwrap();
    targets.ingress[0].peers.push(espalier_lab::fabric::Peer::Group("sg-prober".into()));
    let mut prober_group = targets.clone();
    prober_group.ingress.clear();
    changed.groups.insert("sg-prober".into(), prober_group);
    estate.world.fabric.replace(changed);
    assert_eq!(prober.get_at(target, HOST, "/").await.unwrap().body, "i-1");
}

/// UG tls-listeners: routed by an exact match of the ClientHello's name with the custom domain name.
#[tokio::test]
async fn only_the_custom_domain_name_is_routed() {
    let estate = Estate::new(at_once()).await;
    let client = estate.client("127.1.0.10");
    let address = SocketAddr::new(ip("127.171.0.2"), estate.port);
    for name in ["other.example.com", "x.api.example.com", "127.171.0.2"] {
        let refused = client.get_at(address, name, "/").await.unwrap_err();
        assert!(matches!(refused, ClientError::Handshake(_)), "{name}: {refused:?}");
    }
    assert_eq!(estate.events("WrongName"), 3);
}

#[tokio::test]
async fn an_association_that_goes_takes_its_clients_with_it() {
    let estate = Estate::new(at_once()).await;
    assert!(estate.answer("127.1.0.10").await.is_ok());
    estate.world.delete(&format!("/servicenetworkvpcassociations/{}", estate.association)).await.ok();
    assert!(matches!(estate.answer("127.1.0.10").await, Err(ClientError::TimedOut(_))));
    // Without security groups everyone in the VPC is admitted (UG security-groups).
    estate.world.associate_vpc(&estate.network, CLIENTS_VPC, &[]).await.ok();
    assert!(estate.answer("127.1.0.11").await.is_ok());
}

/// API TargetSummary: DRAINING takes no new connections while current ones go on; afterwards they end.
#[tokio::test]
async fn a_draining_target_keeps_its_connections_and_gets_no_new_ones() {
    let estate = Estate::new(Options { draining: Duration::from_millis(600), ..at_once() }).await;
    // Half a ClientHello would be held by the data plane itself, so open connections are made by hand.
    let open = || async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.1.0.10:0".parse().unwrap()).unwrap();
        let mut stream = socket.connect(SocketAddr::new(ip("127.171.0.2"), estate.port)).await.unwrap();
        stream.write_all(&hello(HOST)).await.unwrap();
        let mut first = [0_u8; 1];
        stream.read_exact(&mut first).await.unwrap();
        stream
    };
    let mut streams = [open().await, open().await];
    let path = format!("/targetgroups/{}/deregistertargets", estate.group);
    estate.world.post(&path, json!({"targets": [{"id": "i-1"}]})).await.ok();
    for _ in 0..6 {
        assert_eq!(estate.answer("127.1.0.10").await.unwrap(), "i-2");
    }
    let open_now = |target: &str| {
        let connections = estate.world.lattice.connections();
        connections.iter().find(|known| known.target == target).map(|known| known.open)
    };
    assert_eq!(open_now("i-1"), Some(1));
    let left = until(|| async { open_now("i-1") }, Option::is_none).await;
    assert_eq!(left, None);
    until(|| async { estate.events("Drained") }, |ended| *ended == 1).await;
    assert_eq!(estate.events("Drained"), 1);
    // One of the two connections has ended, the other is alive.
    let mut rest = Vec::new();
    let mut ended = 0;
    for stream in &mut streams {
        let reading = tokio::time::timeout(Duration::from_millis(200), stream.read_to_end(&mut rest)).await;
        ended += u32::from(reading.is_ok());
    }
    assert_eq!(ended, 1);
}

fn hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// UG tls-listeners: the connection time is limited (ten minutes; shortened here).
#[tokio::test]
async fn connections_end_at_their_maximum() {
    let estate = Estate::new(Options { connection_max: Duration::from_millis(200), ..at_once() }).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.1.0.10:0".parse().unwrap()).unwrap();
    let mut stream = socket.connect(SocketAddr::new(ip("127.171.0.2"), estate.port)).await.unwrap();
    stream.write_all(&hello(HOST)).await.unwrap();
    let mut all = Vec::new();
    tokio::time::timeout(Duration::from_secs(3), stream.read_to_end(&mut all)).await.unwrap().ok();
    assert_eq!(estate.events("MaxDuration"), 1);
}

/// API WeightedTargetGroup: weights distribute connections over target groups; 0 takes a group out.
#[tokio::test]
async fn weights_share_connections_out() {
    let estate = Estate::new(at_once()).await;
    let world = &estate.world;
    let mut groups = Vec::new();
    for (name, target) in [("only-1", "i-1"), ("only-2", "i-2")] {
        let mut body = world.group_body(name, "TCP");
        body["config"]["port"] = estate.port.into();
        let group = id(world.post("/targetgroups", body).await.ok());
        world.register(&group, &[target]).await;
        groups.push(group);
    }
    let listeners = world.get(&format!("/services/{}/listeners", estate.service)).await;
    let listener = listeners["items"][0]["id"].as_str().unwrap().to_owned();
    let forward = |weights: [u32; 2]| -> Value {
        let groups = groups.iter().zip(weights);
        let groups: Vec<_> =
            groups.map(|(group, weight)| json!({"targetGroupIdentifier": group, "weight": weight})).collect();
        json!({"defaultAction": {"forward": {"targetGroups": groups}}})
    };
    for (weights, expected) in [([3, 1], [15, 5]), ([0, 1], [0, 20])] {
        let path = format!("/services/{}/listeners/{listener}", estate.service);
        world.call("PATCH", &path, forward(weights)).await.ok();
        let mut seen = [0, 0];
        for _ in 0..20 {
            seen[usize::from(estate.answer("127.1.0.10").await.unwrap() == "i-2")] += 1;
        }
        assert_eq!(seen, expected);
    }
    world.call("PATCH", &format!("/services/{}/listeners/{listener}", estate.service), forward([0, 0])).await.ok();
    assert!(matches!(estate.answer("127.1.0.10").await, Err(ClientError::Handshake(_))));
    assert_eq!(estate.events("NoTarget"), 1);
}

/// UG target-group-health-checks: a target in service is taken out by failed checks, not by checks that are switched on.
#[tokio::test]
async fn checks_that_are_switched_on_take_nobody_out_of_service() {
    // No check will come to an end: what is seen is what switching them on does.
    let estate = Estate::new(Options { second: Duration::from_secs(600), ..at_once() }).await;
    let check = json!({"healthCheck": {"enabled": true, "protocol": "HTTPS", "protocolVersion": "HTTP1"}});
    for guest in estate.guests.values() {
        guest.task.abort();
    }
    for _ in 0..2 {
        estate.world.call("PATCH", &format!("/targetgroups/{}", estate.group), check.clone()).await.ok();
        assert!(estate.world.statuses(&estate.group).await.iter().all(|(_, status)| status == "INITIAL"));
        // There is nobody at the target, but it is chosen.
        assert!(matches!(estate.answer("127.1.0.10").await, Err(ClientError::Handshake(_))));
    }
    assert_eq!(estate.events("NoTarget"), 0);
}

/// UG target-group-health-checks: only healthy targets take connections; when none is healthy, all do.
#[tokio::test]
async fn health_checks_take_a_dead_target_out_and_fail_open() {
    let estate = Estate::new(Options { second: Duration::from_millis(20), ..at_once() }).await;
    let check = json!({"healthCheck": {"enabled": true, "protocol": "HTTPS", "protocolVersion": "HTTP1",
        "healthCheckIntervalSeconds": 5, "healthyThresholdCount": 2}});
    estate.world.call("PATCH", &format!("/targetgroups/{}", estate.group), check).await.ok();
    let all = |status: &'static str| move |seen: &Vec<(String, String)>| seen.iter().all(|(_, s)| s == status);
    let seen = until(|| estate.world.statuses(&estate.group), all("HEALTHY")).await;
    assert!(all("HEALTHY")(&seen), "{seen:?}");

    estate.guests["i-1"].task.abort();
    let seen = until(|| estate.world.statuses(&estate.group), |seen| seen[0].1 == "UNHEALTHY").await;
    assert_eq!(seen[0].1, "UNHEALTHY");
    for _ in 0..4 {
        assert_eq!(estate.answer("127.1.0.10").await.unwrap(), "i-2");
    }
    estate.guests["i-2"].task.abort();
    until(|| estate.world.statuses(&estate.group), all("UNHEALTHY")).await;
    assert!(matches!(estate.answer("127.1.0.10").await, Err(ClientError::Handshake(_))));
    assert_eq!(estate.events("NoTarget"), 0);
}

#[tokio::test]
async fn dns_tells_missing_names_from_names_without_an_address() {
    let estate = Estate::new(at_once()).await;
    let from: IpAddr = ip("127.1.0.10");
    let ask = |name: &'static str| dns::resolve(from, estate.dns.address(), name);
    assert_eq!(ask(HOST).await.unwrap(), [std::net::Ipv4Addr::new(127, 171, 0, 2)]);
    assert_eq!(ask("example.com").await.unwrap(), Vec::<std::net::Ipv4Addr>::new());
    assert!(matches!(ask("nobody.example.com").await, Err(dns::ResolveError::Refused(_))));
    assert!(matches!(ask("example.org").await, Err(dns::ResolveError::Refused(_))));
    assert_eq!(estate.dns.queries(), 4);
}

/// API DeleteListener: what is deleted does not listen any more.
#[tokio::test]
async fn a_deleted_listener_refuses_connections() {
    let estate = Estate::new(at_once()).await;
    let listeners = estate.world.get(&format!("/services/{}/listeners", estate.service)).await;
    let listener = listeners["items"][0]["id"].as_str().unwrap().to_owned();
    estate.world.delete(&format!("/services/{}/listeners/{listener}", estate.service)).await;
    let gone = until(|| estate.answer("127.1.0.10"), |answer| matches!(answer, Err(ClientError::Connect(_)))).await;
    assert!(matches!(gone, Err(ClientError::Connect(_))), "{gone:?}");
}

#[tokio::test]
async fn load_counts_what_it_sees() {
    let estate = Estate::new(at_once()).await;
    let aim = Aim::Through { host: HOST.into(), port: estate.port };
    let load = Load::start(&estate.client("127.1.0.10"), &aim, 2, &Pace::new(Duration::ZERO));
    until(|| async { load.report().attempted }, |attempted| *attempted >= 40).await;
    let report = load.stop().await;
    assert_eq!((report.failed, report.failures.len()), (0, 0), "{report:?}");
    assert_eq!(report.attempted, report.bodies.values().sum::<u64>());
    assert_eq!((report.serials.len(), report.bodies.len()), (2, 2));
    assert!(report.p50_ms > 0.0 && report.p50_ms <= report.p99_ms);
}

/// Everybody in the lab verifies for themselves: trust is the roots that were given, all of them and no other.
#[tokio::test(flavor = "multi_thread")]
async fn two_authorities_of_one_name_are_told_apart() {
    let mut estate = Estate::new(at_once()).await;
    let (ours, theirs) = (estate.roots.clone(), authority().pem());
    for (roots, is_good) in [(theirs.clone(), false), (format!("{theirs}{ours}"), true), (ours, true)] {
        estate.roots = roots;
        match estate.answer("127.1.0.10").await {
            Ok(_) => assert!(is_good),
            Err(error) => assert!(!is_good && matches!(error, ClientError::Handshake(_)), "{error:?}"),
        }
        let seen = pressed(estate.client("127.1.0.10"), estate.guests["i-1"].address).await;
        assert_eq!(if is_good { 0 } else { seen.attempted }, seen.failed, "{seen:?}");
        assert!(seen.failures.keys().all(|code| code == "Handshake"), "{seen:?}");
        assert!(is_good == (seen.bodies.keys().eq(["i-1"])), "{seen:?}");
    }
}

/// What two connections at once saw until a dozen had ended.
async fn pressed(client: Client, server: SocketAddr) -> LoadReport {
    let press = Arc::new(Press::new(&client, HOST, &[server], 2));
    press.begin(0);
    until(|| async { press.report().attempted }, |attempted| *attempted >= 12).await;
    tokio::task::spawn_blocking(move || press.stop()).await.unwrap()
}
