#!/usr/bin/env python3
"""Whole processes, measured from outside: starts, memory, the first certificate, rates per CPU-second, sizes.

Every figure that is a time is the median of interleaved runs, so that what else the machine does meets all programs
alike; the ratios are what counts. Prints Markdown for docs/benchmarks.md. `benches/run` builds what this needs.
"""

import argparse
import http.server
import os
import pathlib
import select
import socket
import statistics
import subprocess
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent

# The AWS clients each function builds (functions/*/src), by boto3's names: with the environment below none for other
# accounts (STS), and the authority's keys in KMS.
CLIENTS = {
    "provision": ["vpc-lattice", "ec2", "route53", "ssm", "events", "acm", "autoscaling", "dynamodb"],
    "rotate": ["ssm", "dynamodb", "acm", "stepfunctions"],
    "authority": ["ssm", "dynamodb", "kms"],
    "mint": ["ssm", "dynamodb", "kms"],
    "export": ["ssm", "dynamodb", "acm"],
    "distribute": ["ssm", "dynamodb"],
    "verify": [],
    "fleet": ["ssm", "dynamodb", "acm"],
    "seal": ["ssm", "dynamodb", "s3", "kms"],
}

# What template.yaml gives them, with names that lead nowhere: nothing is called before the first event. A contract test
# holds it to what the functions require, and `starts_with_all` has each function say so itself.
ENVIRONMENT = {
    "ESPALIER_ALLOWED_DOMAINS": "example.com",
    "ESPALIER_LEDGER_TABLE": "ledger",
    "ESPALIER_STATE_MACHINE_ARN": "arn:aws:states:eu-west-1:111122223333:stateMachine:espalier-rotation",
    "ESPALIER_LEAF_KEY_ID": "arn:aws:kms:eu-west-1:111122223333:key/11111111-2222-4333-8444-555555555555",
    "ESPALIER_TRUST_WAIT_HOURS": "168",
    "ESPALIER_ROOT_KEY_ARN": "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-4000-8000-000000000000",
    "ESPALIER_ISSUING_KEY_ARN": "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-4000-8000-000000000001",
    "ESPALIER_INSTALLER_DOCUMENT": "espalier-installer",
    "ESPALIER_EVIDENCE_BUCKET": "evidence",
    "ESPALIER_SEALING_KEY_ARN": "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-4000-8000-000000000002",
    "ESPALIER_SESSION_NAME": "espalier",
    "AWS_LAMBDA_FUNCTION_NAME": "benchmark",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_EC2_METADATA_DISABLED": "true",
    # One file, as on Amazon Linux 2023; Debian's default is a folder of hundreds.
    "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
    "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
}


# What Lambda says of a sampled invocation.
TRACE = "Root=1-581cf771-a006649127e371903a2de979;Parent=53995c3f42cd8ad8;Sampled=1"


class RuntimeApi:
    """Plays the Lambda service up to the first request for an event, or to the answer to one."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]

    def first_poll(self):
        """When the first poll arrived; the connection stays open, so that the process still lives."""
        connection, _ = self.listener.accept()
        request = connection.recv(4096)
        arrived = time.perf_counter()
        if b"/invocation/next" not in request.split(b"\r\n", 1)[0]:
            raise SystemExit(f"not a poll: {request[:200]!r}")
        return arrived, connection

    def first_answer(self, connection):
        """Hands out one event, `null`; when the answer to it arrived."""
        headers = {
            "Lambda-Runtime-Aws-Request-Id": "00000000-0000-4000-8000-000000000002",
            "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + 60_000),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-west-1:111122223333:function:benchmark",
            "Lambda-Runtime-Trace-Id": TRACE,
            "Content-Type": "application/json",
            "Content-Length": "4",
        }
        lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in headers.items()), "", "null"]
        connection.sendall("\r\n".join(lines).encode())
        readable, _, _ = select.select([self.listener, connection], [], [], 60)
        if not readable:
            raise SystemExit("no answer within a minute")
        if self.listener in readable:
            connection, _ = self.listener.accept()
        request = connection.recv(4096)
        arrived = time.perf_counter()
        if not request.startswith(b"POST"):
            raise SystemExit(f"not an answer: {request[:200]!r}")
        return arrived


class OneEvent(http.server.BaseHTTPRequestHandler):
    """Plays the Lambda service for one event, `null`, and keeps the answer."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.server.is_handed_out:
            self.server.answered.wait(60)
            self.close_connection = True
            return
        self.server.is_handed_out = True
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", "00000000-0000-4000-8000-000000000002")
        self.send_header("Lambda-Runtime-Deadline-Ms", str(int(time.time() * 1000) + 60_000))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-west-1:111122223333:function:benchmark")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"null")

    def do_POST(self):
        self.server.answer = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.server.answered.set()

    def log_message(self, *_):
        pass


def starts_with_all(program):
    """Ends everything unless the function has all it needs: one whose start failed asks for events, too, without its
    clients, and answers each with what was missing. One that has started answers this event with its own fault."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OneEvent)
    server.daemon_threads = True
    # The function is killed in the middle of its next question.
    server.handle_error = lambda *_: None
    server.is_handed_out, server.answer, server.answered = False, "nothing", threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = dict(ENVIRONMENT, AWS_LAMBDA_RUNTIME_API="127.0.0.1:%d" % server.server_port)
    process = subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server.answered.wait(60)
    process.kill()
    process.wait()
    server.shutdown()
    if "not a JSON object" not in server.answer:
        raise SystemExit(f"{program} has not started with what is measured: {server.answer}")


def start(program):
    """Milliseconds from spawning to the first poll, and the peak of resident memory until then in MiB."""
    api = RuntimeApi()
    environment = dict(ENVIRONMENT, AWS_LAMBDA_RUNTIME_API=api.address)
    seen = []
    waiter = threading.Thread(target=lambda: seen.append(api.first_poll()))
    waiter.start()
    begun = time.perf_counter()
    process = subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    waiter.join(60)
    if not seen:
        raise SystemExit(f"{program} did not poll within a minute")
    arrived, connection = seen[0]
    peak = next(
        int(line.split()[1]) / 1024
        for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    process.kill()
    process.wait()
    connection.close()
    api.listener.close()
    return (arrived - begun) * 1000, peak


class Daemon:
    """Plays Lambda's X-Ray daemon."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]

    def documents(self):
        """How many have come since the last question."""
        count = 0
        while select.select([self.socket], [], [], 0)[0]:
            self.socket.recv(65536)
            count += 1
        return count


def traced_start(program, daemon, is_traced):
    """Milliseconds from spawning to the first poll, and to the answer to a first event."""
    api = RuntimeApi()
    switch = {"ESPALIER_TRACING": str(is_traced).lower(), "AWS_XRAY_DAEMON_ADDRESS": daemon.address}
    environment = dict(ENVIRONMENT, AWS_LAMBDA_RUNTIME_API=api.address, **switch)
    api.listener.settimeout(60)
    begun = time.perf_counter()
    process = subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    polled, connection = api.first_poll()
    answered = api.first_answer(connection)
    process.kill()
    process.wait()
    connection.close()
    api.listener.close()
    # A document that was not sent would be measured as a fast one.
    if daemon.documents() != int(is_traced):
        raise SystemExit(f"{program} was not measured with what it was switched to: traced is {is_traced}")
    return (polled - begun) * 1000, (answered - begun) * 1000


def tracing(arguments):
    daemon = Daemon()
    runs = {(name, is_traced): [] for name in CLIENTS for is_traced in (False, True)}
    for _ in range(arguments.runs):
        for (name, is_traced), all_runs in runs.items():
            all_runs.append(traced_start([str(arguments.functions / name)], daemon, is_traced))
    print(f"| tracing, {arguments.runs} runs | off: first poll, ms | on | off: first answer, ms | on |")
    print("| --- | --- | --- | --- | --- |")
    for name in CLIENTS:
        medians = [statistics.median(run[which] for run in runs[name, on]) for which in (0, 1) for on in (False, True)]
        print("| `%s` | %.1f | %.1f | %.1f | %.1f |" % (name, *medians))


def starts(arguments):
    # A function that nobody listed would be missing without a word.
    functions = {entry.name for entry in (HERE.parent / "functions").iterdir()}
    if functions != set(CLIENTS):
        raise SystemExit(f"the functions are {sorted(functions)}, and clients are listed for {sorted(CLIENTS)}")
    for name in CLIENTS:
        starts_with_all([str(arguments.functions / name)])
    programs = {"hello (Rust)": [str(arguments.examples / "hello")]}
    for name, clients in CLIENTS.items():
        programs[name] = [str(arguments.functions / name)]
        programs[f"{name} (boto3)"] = [arguments.python, str(HERE / "boto3_function.py"), *clients]
    runs = {name: [] for name in programs}
    for _ in range(arguments.runs):
        for name, program in programs.items():
            runs[name].append(start(program))
    median = {
        name: (statistics.median(ms for ms, _ in all), statistics.median(mib for _, mib in all))
        for name, all in runs.items()
    }
    print(f"| start to first poll, {arguments.runs} runs | ms | peak MiB | boto3 ms | boto3 MiB | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    print("| hello: lambda_runtime alone | %.1f | %.1f | | | |" % median["hello (Rust)"])
    for name, clients in CLIENTS.items():
        (ms, mib), (peer_ms, peer_mib) = median[name], median[f"{name} (boto3)"]
        print(
            f"| `{name}`, {len(clients)} clients | {ms:.1f} | {mib:.1f} | {peer_ms:.0f} | {peer_mib:.0f} | {peer_ms / ms:.0f}x |"
        )


def cpu_seconds(program, stdin=b""):
    """What a process prints, and the CPU time it used."""
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(stdin)
    process.stdin.close()
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{program} ended with {process.returncode}")
    return printed, usage.ru_utime + usage.ru_stime


def certificates(arguments):
    program = str(arguments.examples / "mint")
    authority, _ = cpu_seconds([program, "make"])
    first = statistics.median(int(cpu_seconds([program, "1"], authority)[0]) for _ in range(arguments.runs))
    count = arguments.certificates
    _, cpu = cpu_seconds([program, str(count)], authority)
    print("| certificates | |")
    print("| --- | --- |")
    print(f"| first of a process: key, leaf, checks, bundle | {first / 1000:.2f} ms |")
    print(f"| minted per CPU-second | {count / cpu:,.0f} |")
    print()
    kinds_of_keys(arguments, program, authority)


# How many of each kind in a round, of 20,000 of ours: a round takes each program about as long. Primes are searched by luck.
KINDS = {
    "EC_prime256v1": (5_000, 5_000, 20),
    "EC_secp384r1": (1_000, 1_000, 20),
    "Ed25519": (5_000, 5_000, 20),
    "RSA_2048": (40, 40, 20),
    "RSA_3072": (10, 10, 10),
    "RSA_4096": (4, 4, 4),
}


def kinds_of_keys(arguments, program, authority):
    """Key, leaf and PEM, each kind of key, against two others in turns: certificates per CPU-second of a process's whole life."""
    print("| key | Espalier, checked | Python cryptography | ratio | openssl, three processes each | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    peers = [arguments.python, str(HERE / "mint_peers.py")]
    rounds = 1 if arguments.certificates < 1_000 else 5
    for kind, counts in KINDS.items():
        counts = [max(1, count * arguments.certificates // 20_000) for count in counts]
        ours, cryptography, openssl = counts
        programs = [
            (ours, [program, str(ours), kind], authority),
            (cryptography, [*peers, "cryptography", str(cryptography), kind], b""),
            (openssl, [*peers, "openssl", str(openssl), kind], b""),
        ]
        rates = [[] for _ in programs]
        for _ in range(rounds):
            for rate, (count, command, given) in zip(rates, programs):
                rate.append(count / cpu_seconds(command, given)[1])
        ours, cryptography, openssl = (statistics.median(rate) for rate in rates)
        print(f"| {kind} | {ours:,.0f} | {cryptography:,.0f} | {ours / cryptography:.1f}x | {openssl:,.0f} | {ours / openssl:,.0f}x |")


def handshakes(arguments):
    count = arguments.handshakes
    printed, cpu = cpu_seconds([str(arguments.examples / "probe"), str(count)])
    print("| prober, TLS 1.3, P-256, client and server | |")
    print("| --- | --- |")
    print(f"| full handshakes per second | {count / float(printed):,.0f} |")
    print(f"| full handshakes per CPU-second of both ends | {count / cpu:,.0f} |")


def sizes(arguments):
    print("| function | binary, MB | zip, MB |")
    print("| --- | --- | --- |")
    for name in CLIENTS:
        folder = arguments.zips / name
        packed, plain = folder / "bootstrap.zip", folder / "bootstrap"
        size = lambda path: f"{path.stat().st_size / 1e6:.2f}" if path.exists() else "-"
        print(f"| `{name}` | {size(plain)} | {size(packed)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--functions", type=pathlib.Path, help="directory of the functions' release binaries")
    parser.add_argument("--examples", type=pathlib.Path, help="directory of the release examples")
    parser.add_argument("--zips", type=pathlib.Path, help="target/lambda, built for arm64 with --output-format zip")
    parser.add_argument("--python", default="python3", help="a Python that has boto3")
    parser.add_argument("--runs", type=int, default=31)
    parser.add_argument("--certificates", type=int, default=20_000)
    parser.add_argument("--handshakes", type=int, default=10_000)
    arguments = parser.parse_args()
    if arguments.functions:
        starts(arguments)
        print()
        tracing(arguments)
        print()
    if arguments.examples:
        certificates(arguments)
        print()
        handshakes(arguments)
        print()
    if arguments.zips:
        sizes(arguments)


if __name__ == "__main__":
    main()
