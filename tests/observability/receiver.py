"""A collector of traces that reads what it is sent with OpenTelemetry's own generated code.

Prints "listening on PORT", then for each span a line of JSON. With an argument it answers every request with that status,
and prints the status instead.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


def plain(attributes):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}


class Collector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    status = 200

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        kind = self.headers["content-type"]
        if self.path != "/v1/traces" or kind != "application/x-protobuf":
            print(f"unexpected: {self.path} {kind}", flush=True)
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        if self.status != 200:
            print(json.dumps({"answered": self.status}), flush=True)
        else:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        print(json.dumps(self.shown(resource.resource, scope.scope, span)), flush=True)
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(self.status)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def shown(self, resource, scope, span):
        return {
            "resource": plain(resource.attributes),
            "scope": scope.name,
            "authorization": self.headers["authorization"],
            "trace": span.trace_id.hex(),
            "id": span.span_id.hex(),
            "parent": span.parent_span_id.hex(),
            "name": span.name,
            "kind": Span.SpanKind.Name(span.kind),
            "began": span.start_time_unix_nano,
            "ended": span.end_time_unix_nano,
            "attributes": plain(span.attributes),
            "status": Status.StatusCode.Name(span.status.code),
            "message": span.status.message,
        }

    def log_message(self, *_):
        pass


if len(sys.argv) > 1:
    Collector.status = int(sys.argv[1])
server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
print(f"listening on {server.server_address[1]}", flush=True)
server.serve_forever()
