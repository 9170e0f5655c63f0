"""Starts MiniStack, with what its Lambda and Step Functions leave out of a trace, and with whole logs.

Both take the tracing header of a request, hand it on to what they call, and send segments of their own to X-Ray (X-Ray
developer guide, "Tracing header"; Step Functions developer guide, "Trace Step Functions request data in AWS X-Ray").
MiniStack gives each invocation a trace of its own and sends nothing.

It also stops reading a function's output when nothing has come for five milliseconds after the answer, which on a busy machine is
in the middle of it: the rest would be the next invocation's.
"""

import contextvars
import json
import os
import secrets
import socket
import sys
import time

from ministack.app import main
from ministack.core import lambda_runtime
from ministack.services import lambda_svc, stepfunctions

HOST, PORT = os.environ["AWS_XRAY_DAEMON_ADDRESS"].rsplit(":", 1)
SOCKET = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

# What a function writes last, and how long that is waited for: one that could not read its event does not write it.
LAST, PATIENCE = '"Failed":', 5.0

# The header that is in force where something is called: (trace, parent, whether it is sampled). Threads that MiniStack
# starts for an execution or for an invocation copy it.
CURRENT = contextvars.ContextVar("current", default=None)


def identifier():
    return secrets.token_hex(8)


def read(header):
    fields = dict(part.split("=", 1) for part in (header or "").split(";") if "=" in part)
    if "Root" not in fields:
        return None
    return fields["Root"], fields.get("Parent"), fields.get("Sampled") != "0"


def begun():
    return f"1-{int(time.time()):08x}-{secrets.token_hex(12)}", None, True


def send(trace, identity, parent, name, since, failed=False, **more):
    document = {"trace_id": trace, "id": identity, "name": name, "start_time": since, "end_time": time.time(), **more}
    if parent:
        document["parent_id"] = parent
    if failed:
        document["fault"] = True
    SOCKET.sendto(b'{"format":"json","version":1}\n' + json.dumps(document).encode(), (HOST, int(PORT)))


def listening(handle):
    """What a request says in its header is in force for whatever it causes."""

    async def handle_request(method, path, headers, body, query_params):
        CURRENT.set(read(headers.get("x-amzn-trace-id")))
        return await handle(method, path, headers, body, query_params)

    return handle_request


def invoking(execute):
    """Lambda's two segments: the service that was asked, and the function that answers."""

    def execute_traced(function, event, request_id):
        config = function.get("config") or function
        current = CURRENT.get()
        is_active = (config.get("TracingConfig") or {}).get("Mode") == "Active"
        trace, parent, is_sampled = current or begun()
        if not is_sampled or (current is None and not is_active):
            return execute(function, event, request_id)
        service, environment, since = identifier(), identifier(), time.time()
        token = CURRENT.set((trace, environment, True))
        failed = True
        try:
            result = execute(function, event, request_id)
            failed = bool(result.get("error"))
            return result
        finally:
            CURRENT.reset(token)
            name = config.get("FunctionName", "unknown")
            arn = {"function_arn": config.get("FunctionArn", "")}
            send(trace, environment, service, name, since, failed, origin="AWS::Lambda::Function", aws=arn)
            send(trace, service, parent, name, since, failed, origin="AWS::Lambda", aws={"request_id": request_id})

    return execute_traced


def header(config, inbound=None):
    """What the function is told: the trace that is in force where it is invoked."""
    current = CURRENT.get()
    if current is None:
        return None
    trace, parent, is_sampled = current
    return f"Root={trace};Parent={parent};Sampled={int(is_sampled)}"


def executing(run):
    """Step Functions' segment of an execution."""

    def run_traced(arn):
        trace, parent, is_sampled = CURRENT.get() or begun()
        if not is_sampled:
            return run(arn)
        segment, since = identifier(), time.time()
        CURRENT.set((trace, segment, True))
        try:
            return run(arn)
        finally:
            failed = stepfunctions._executions.get(arn, {}).get("status") != "SUCCEEDED"
            machine, execution = arn.split(":")[-2:]
            kind, said = "AWS::StepFunctions::StateMachine", {"default": {"execution": execution}}
            send(trace, segment, parent, machine, since, failed, origin=kind, metadata=said)

    return run_traced


def working(execute):
    """... and one subsegment for each task."""

    def execute_traced(state, given, execution, context):
        current = CURRENT.get()
        if current is None or not current[2]:
            return execute(state, given, execution, context)
        trace, parent, _ = current
        task, since, failed = identifier(), time.time(), True
        token = CURRENT.set((trace, task, True))
        try:
            result = execute(state, given, execution, context)
            failed = False
            return result
        finally:
            CURRENT.reset(token)
            send(trace, task, parent, context["State"]["Name"], since, failed, type="subsegment")

    return execute_traced


def is_alive(worker):
    return worker._proc is not None and worker._proc.poll() is None


def reading(drain):
    """An invocation's log to its end."""

    def drain_all(worker, **waits):
        log = drain(worker, **waits)
        until = time.monotonic() + PATIENCE
        # Whoever asks for another wait asks about a start, in which there are no metrics.
        while not waits and LAST not in log and is_alive(worker) and time.monotonic() < until:
            log = "\n".join(part for part in (log, drain(worker)) if part)
        return log

    return drain_all


lambda_runtime.ProvidedWorker._drain_stderr_bounded = reading(lambda_runtime.Worker._drain_stderr_bounded)
lambda_svc.handle_request = listening(lambda_svc.handle_request)
lambda_svc._execute_function_provided_warm = invoking(lambda_svc._execute_function_provided_warm)
lambda_svc._xray_trace_id_for_invocation = header
stepfunctions.handle_request = listening(stepfunctions.handle_request)
stepfunctions._run_execution = executing(stepfunctions._run_execution)
stepfunctions._execute_task = working(stepfunctions._execute_task)

if __name__ == "__main__":
    sys.exit(main())
