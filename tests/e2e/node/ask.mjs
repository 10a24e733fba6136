// Asks the gateway through one official Node SDK and prints what it said, as one JSON object.
// Usage: node ask.mjs SDK MODEL, with GATEWAY_URL and GATEWAY_KEY in the environment.

import Anthropic from "@anthropic-ai/sdk";
import { GoogleGenAI } from "@google/genai";
import OpenAI, { AzureOpenAI } from "openai";

const [sdk, model] = process.argv.slice(2);
const url = process.env.GATEWAY_URL;
const apiKey = process.env.GATEWAY_KEY;
const SAY = "What is it? [[say: The answer is 42, and nothing else.]]";
const CALL = 'Go. [[tool: get_weather {"city": "Paris"}]] [[tool: get_time {"city": "Rome"}]]';
const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const CITY = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const PERSON = {
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" } },
  required: ["name", "age"],
  additionalProperties: false,
};
const NAMES = ["get_weather", "get_time"];

function openaiChat(client) {
  const tools = NAMES.map((name) => ({ type: "function", function: { name, parameters: CITY } }));
  const ask = (content, options = {}) =>
    client.chat.completions.create({ model, messages: [{ role: "user", content }], ...options });
  return {
    whole: async () => (await ask(SAY)).choices[0].message.content,
    stream: async () => {
      let text = "";
      for await (const chunk of await ask(SAY, { stream: true })) text += chunk.choices[0]?.delta?.content ?? "";
      return text;
    },
    tools: async () =>
      (await ask(CALL, { tools })).choices[0].message.tool_calls.map((call) => [
        call.function.name,
        JSON.parse(call.function.arguments),
      ]),
    schema: async () =>
      JSON.parse(
        (
          await ask("Who?", {
            response_format: { type: "json_schema", json_schema: { name: "person", strict: true, schema: PERSON } },
          })
        ).choices[0].message.content,
      ),
    image: async () =>
      (
        await ask([
          { type: "text", text: SAY },
          { type: "image_url", image_url: { url: `data:image/png;base64,${PIXEL}` } },
        ])
      ).choices[0].message.content,
  };
}

function openaiResponses(client) {
  const tools = NAMES.map((name) => ({ type: "function", name, parameters: CITY, strict: false }));
  const ask = (input, options = {}) => client.responses.create({ model, input, ...options });
  return {
    whole: async () => (await ask(SAY)).output_text,
    stream: async () => {
      let text = "";
      for await (const event of await ask(SAY, { stream: true })) {
        if (event.type === "response.output_text.delta") text += event.delta;
      }
      return text;
    },
    tools: async () =>
      (await ask(CALL, { tools })).output
        .filter((item) => item.type === "function_call")
        .map((item) => [item.name, JSON.parse(item.arguments)]),
    schema: async () =>
      JSON.parse(
        (await ask("Who?", { text: { format: { type: "json_schema", name: "person", strict: true, schema: PERSON } } }))
          .output_text,
      ),
    image: async () =>
      (
        await ask([
          {
            role: "user",
            content: [
              { type: "input_text", text: SAY },
              { type: "input_image", image_url: `data:image/png;base64,${PIXEL}`, detail: "auto" },
            ],
          },
        ])
      ).output_text,
  };
}

function anthropic(client) {
  const tools = NAMES.map((name) => ({ name, input_schema: CITY }));
  const asked = (content, options = {}) => ({
    model,
    max_tokens: 500,
    messages: [{ role: "user", content }],
    ...options,
  });
  return {
    whole: async () => (await client.messages.create(asked(SAY))).content[0].text,
    stream: async () => (await client.messages.stream(asked(SAY)).finalMessage()).content[0].text,
    tools: async () =>
      (await client.messages.create(asked(CALL, { tools }))).content
        .filter((block) => block.type === "tool_use")
        .map((block) => [block.name, block.input]),
    schema: async () =>
      JSON.parse(
        (await client.messages.create(asked("Who?", { output_config: { format: { type: "json_schema", schema: PERSON } } })))
          .content[0].text,
      ),
    image: async () =>
      (
        await client.messages.create(
          asked([
            { type: "image", source: { type: "base64", media_type: "image/png", data: PIXEL } },
            { type: "text", text: SAY },
          ]),
        )
      ).content[0].text,
  };
}

function google(client) {
  const declarations = NAMES.map((name) => ({ name, parametersJsonSchema: CITY }));
  const ask = (contents, config = {}) => client.models.generateContent({ model, contents, config });
  return {
    whole: async () => (await ask(SAY)).text,
    stream: async () => {
      let text = "";
      for await (const chunk of await client.models.generateContentStream({ model, contents: SAY })) {
        text += chunk.text ?? "";
      }
      return text;
    },
    tools: async () =>
      (await ask(CALL, { tools: [{ functionDeclarations: declarations }] })).functionCalls.map((call) => [
        call.name,
        call.args,
      ]),
    schema: async () =>
      JSON.parse((await ask("Who?", { responseMimeType: "application/json", responseJsonSchema: PERSON })).text),
    image: async () =>
      (
        await ask([
          { role: "user", parts: [{ text: SAY }, { inlineData: { mimeType: "image/png", data: PIXEL } }] },
        ])
      ).text,
  };
}

const SDKS = {
  openai_chat: () => openaiChat(new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 })),
  openai_responses: () => openaiResponses(new OpenAI({ baseURL: `${url}/openai/v1`, apiKey, maxRetries: 0 })),
  azure: () => openaiChat(new AzureOpenAI({ endpoint: url, apiKey, apiVersion: "2024-10-21", maxRetries: 0 })),
  anthropic: () => anthropic(new Anthropic({ baseURL: `${url}/anthropic`, apiKey, maxRetries: 0 })),
  google: () => google(new GoogleGenAI({ apiKey, vertexai: false, httpOptions: { baseUrl: `${url}/google` } })),
};

const told = {};
for (const [what, ask] of Object.entries(SDKS[sdk]())) {
  try {
    told[what] = await ask();
  } catch (error) {
    told[what] = { failed: `${error.name} ${error.status ?? ""} ${error.message}` };
  }
}
process.stdout.write(JSON.stringify(told));
