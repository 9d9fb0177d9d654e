#!/usr/bin/env node
// Classifies picture files over gRPC: needs the .proto, @grpc/grpc-js and nothing of cifarserve's Python.
//
//   npm ci
//   node classify.js [--address HOST:PORT] [--model NAME] [--top-k K] [--timeout-seconds S] FILE...
//
// Prints one line a picture. Exit status: 0 all answered, 1 some picture failed, 2 the request failed.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { parseArgs } = require("node:util");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const PROTO = path.join(__dirname, "../../../proto/cifarserve/v1/classifier.proto");

// A server that is busy or stopping says so, and in a trailer when to come back; the library obeys it.
const SERVICE_CONFIG = {
  methodConfig: [
    {
      name: [{ service: "cifarserve.v1.ClassifierService" }],
      retryPolicy: {
        maxAttempts: 4,
        initialBackoff: "0.1s",
        maxBackoff: "1s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
      },
    },
  ],
};

function connect(address) {
  // Numbers of 64 bits, such as a version, do not fit into a JavaScript number: they come as text.
  const definition = protoLoader.loadSync(PROTO, { keepCase: true, longs: String, enums: String, defaults: true });
  const { ClassifierService } = grpc.loadPackageDefinition(definition).cifarserve.v1;
  return new ClassifierService(address, grpc.credentials.createInsecure(), {
    "grpc.service_config": JSON.stringify(SERVICE_CONFIG),
  });
}

function predict(client, request, timeoutSeconds) {
  const deadline = new Date(Date.now() + timeoutSeconds * 1000);
  return new Promise((resolve, reject) => {
    client.Predict(request, { deadline }, (error, response) => (error ? reject(error) : resolve(response)));
  });
}

function line(file, result) {
  if (result.error) {
    return `${file}: ${result.error.message}`;
  }
  const labels = result.predictions.map(({ label, probability }) => `${label} ${probability.toFixed(3)}`);
  return `${file}: ${labels.join(", ")}`;
}

async function main() {
  const { values, positionals: files } = parseArgs({
    allowPositionals: true,
    options: {
      address: { type: "string", default: "127.0.0.1:50051" },
      model: { type: "string", default: "" },
      "top-k": { type: "string", default: "1" },
      "timeout-seconds": { type: "string", default: "10" },
    },
  });
  const client = connect(values.address);
  try {
    const images = files.map((file) => ({ encoded: fs.readFileSync(file) }));
    const request = { model: values.model, top_k: Number(values["top-k"]), images };
    const response = await predict(client, request, Number(values["timeout-seconds"]));
    files.forEach((file, place) => console.log(line(file, response.results[place])));
    console.log(`by ${response.model.name} ${response.model.version}, ${response.model.digest.slice(0, 12)}`);
    return response.results.some((result) => result.error) ? 1 : 0;
  } finally {
    client.close();
  }
}

main().then(
  (status) => {
    process.exitCode = status;
  },
  (error) => {
    const name = grpc.status[error.code];
    console.error(name ? `${name}: ${error.details}` : error.message);
    process.exitCode = 2;
  },
);
