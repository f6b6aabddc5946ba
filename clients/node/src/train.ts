/**
 * Hands in a small job and watches it to its end, by the client that is generated from the protos.
 *
 *     node dist/train.js --model /models/qwen3-tiny --data /data/dialogues.jsonl --output-dir node
 *
 * Prints each entry as a line of proto JSON. Exit code 0 if the job SUCCEEDED. The scheduler is at
 * TUNEWRIGHT_ADDRESS (127.0.0.1:7400); TUNEWRIGHT_TOKEN_FILE and TUNEWRIGHT_CA_FILE are for
 * services with tokens and TLS.
 */
import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs, promisify } from "node:util";
import { type ChannelCredentials, type ClientReadableStream, credentials, Metadata, status } from "@grpc/grpc-js";

import { Entry } from "./gen/tunewright/v1/feed.js";
import { Endpoints, FleetServiceClient, GetEndpointsRequest } from "./gen/tunewright/v1/fleet_service.js";
import { Job, JobState, jobStateToJSON } from "./gen/tunewright/v1/job.js";
import { CreateJobRequest, JobServiceClient } from "./gen/tunewright/v1/job_service.js";
import {
  type DeepPartial,
  MonitorServiceClient,
  SubscribeRequest,
  type SubscribeResponse,
} from "./gen/tunewright/v1/monitor_service.js";
import { Accelerator } from "./gen/tunewright/v1/spec.js";

const RECONNECT_MS = 500;
const TERMINAL = [JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED];

interface Wish {
  model: string;
  data: string;
  outputDir: string;
  maxSteps: number;
}

/** The spec, as any client writes it. The same request id gives the same job, however often it is sent. */
async function createJob(address: string, wish: Wish): Promise<Job> {
  const jobs = new JobServiceClient(address, security());
  const request = CreateJobRequest.fromPartial({
    requestId: crypto.randomUUID(),
    job: {
      displayName: "from Node",
      spec: {
        model: { name: wish.model },
        trainData: [{ source: wish.data }],
        outputDir: wish.outputDir,
        hyperparameters: { maxSteps: wish.maxSteps, loggingSteps: 1 },
        resources: { accelerator: Accelerator.ACCELERATOR_CPU },
      },
    },
  });
  const create = promisify<CreateJobRequest, Metadata, Job>(jobs.createJob.bind(jobs));
  try {
    return await create(request, token());
  } finally {
    jobs.close();
  }
}

/** Clients know the scheduler's address only; it tells where the monitor is. */
async function findMonitor(address: string): Promise<string> {
  const fleet = new FleetServiceClient(address, security());
  const ask = promisify<GetEndpointsRequest, Metadata, Endpoints>(fleet.getEndpoints.bind(fleet));
  try {
    const { monitors } = await ask({}, token());
    if (!monitors[0]) throw new Error("the scheduler knows of no monitor");
    return monitors[0];
  } finally {
    fleet.close();
  }
}

/** Every entry of a job, 1, 2, 3 ... to its terminal one. A broken stream goes on where it stopped. */
async function* watch(address: string, job: string): AsyncGenerator<Entry> {
  const monitor = new MonitorServiceClient(await findMonitor(address), security());
  let last = 0n;
  try {
    for (;;) {
      const request: DeepPartial<SubscribeRequest> = { jobs: [job], afterSequence: last, untilTerminal: true };
      const stream: ClientReadableStream<SubscribeResponse> = monitor.subscribe(
        SubscribeRequest.fromPartial(request),
        token(),
      );
      try {
        for await (const answer of stream) {
          for (const entry of (answer as SubscribeResponse).entries) {
            if (entry.sequence === 0n) continue; // a keepalive, or a gap
            last = entry.sequence;
            yield entry;
          }
        }
        return;
      } catch (error) {
        if ((error as { code?: status }).code !== status.UNAVAILABLE) throw error;
        await pause(RECONNECT_MS);
      } finally {
        stream.cancel();
      }
    }
  } finally {
    monitor.close();
  }
}

function security(): ChannelCredentials {
  const authority = process.env.TUNEWRIGHT_CA_FILE;
  return authority ? credentials.createSsl(readFileSync(authority)) : credentials.createInsecure();
}

function token(): Metadata {
  const metadata = new Metadata();
  const file = process.env.TUNEWRIGHT_TOKEN_FILE;
  if (file) {
    // "name:token" is how a service's own token file names its callers.
    const [first = ""] = readFileSync(file, "utf8").trim().split("\n");
    metadata.set("authorization", `Bearer ${first.slice(first.lastIndexOf(":") + 1).trim()}`);
  }
  return metadata;
}

function wishOf(argv: string[]): Wish {
  const options = {
    model: { type: "string" },
    data: { type: "string" },
    "output-dir": { type: "string", default: `node-${Date.now()}` },
    "max-steps": { type: "string", default: "20" },
  } as const;
  const { values } = parseArgs({ args: argv, options });
  if (!values.model || !values.data) throw new Error("--model and --data are needed");
  return {
    model: values.model,
    data: values.data,
    outputDir: values["output-dir"],
    maxSteps: Number(values["max-steps"]),
  };
}

async function main(): Promise<number> {
  const address = process.env.TUNEWRIGHT_ADDRESS ?? "127.0.0.1:7400";
  const job = await createJob(address, wishOf(process.argv.slice(2)));
  console.error(`${job.name} is handed in`);
  let end = JobState.JOB_STATE_UNSPECIFIED;
  for await (const entry of watch(address, job.name)) {
    console.log(JSON.stringify(Entry.toJSON(entry)));
    if (entry.payload?.$case === "stateChange") end = entry.payload.stateChange.to;
  }
  console.error(`${job.name}: ${jobStateToJSON(end)}`);
  if (!TERMINAL.includes(end)) throw new Error("the stream ended before the job");
  return end === JobState.JOB_STATE_SUCCEEDED ? 0 : 1;
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: Error) => {
    console.error(`error: ${error.message}`);
    process.exitCode = 1;
  },
);
