"""A Lambda function in Python that builds the boto3 clients it is told and asks for its first event.

Leaner than awslambdaric: the reference that benches/processes.py compares ours with.
"""

import http.client
import os
import sys

import boto3

clients = [boto3.client(service) for service in sys.argv[1:]]
runtime = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
runtime.request("GET", "/2018-06-01/runtime/invocation/next")
runtime.getresponse()
