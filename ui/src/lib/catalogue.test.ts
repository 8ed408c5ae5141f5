import { afterEach, expect, it, vi } from "vitest";
import { fakePlatform } from "../platform/fake";
import { catalogue, modelName, nameOf } from "./catalogue.svelte";
import { app } from "./state.svelte";

let stop = () => {};
afterEach(() => stop());

it("one model has one name, whatever the file and the network call it", async () => {
  stop = app.start(fakePlatform("waiting"));
  await vi.waitFor(() => expect(app.state).not.toBeNull());
  await catalogue.read();
  const name = "Llama 3.2 3B Instruct";
  const [model] = app.state!.installed;
  expect(nameOf({ ...model!, name: "llama-3.2-3b-instruct-q4_1" })).toBe(name);
  expect(nameOf({ ...model!, catalogue_id: null, name: "Meta Llama 3.2" })).toBe(name);
  expect(modelName("llama-3.2-3b")).toBe(name);
  expect(modelName("llama-3.2-3b-instruct-q4_1")).toBe(name);
  expect(modelName("anything", model!.id)).toBe(name);
  expect(modelName("qwen2.5-7b")).toBe("Qwen2.5 7B Instruct");
  expect(modelName("a model of somebody's own")).toBe("a model of somebody's own");
});
