// The Vercel AI SDK over several turns: a tool, a tool in a stream, an object. Prints what the application gets.
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateObject, generateText, stepCountIs, streamObject, streamText, tool } from 'ai';
import { z } from 'zod';

const { provider, baseURL, model: name, question, store } = JSON.parse(process.argv[2]);
const openai = createOpenAI({ baseURL, apiKey: 'none' });
const models = {
  responses: () => openai(name), // the default of the SDK's OpenAI provider
  chat: () => openai.chat(name),
  compatible: () => createOpenAICompatible({ name: 'gateway', baseURL, supportsStructuredOutputs: true })(name),
};
const look_up = tool({
  description: 'Looks a word up in the dictionary.',
  inputSchema: z.object({ word: z.string() }),
  execute: async ({ word }) => `${word}: an adjective`,
});
const common = { model: models[provider](), maxRetries: 0, providerOptions: { openai: store === false ? { store } : {} } };
const withTools = { ...common, tools: { look_up }, stopWhen: stepCountIs(4) };
const object = { ...common, schema: z.object({ word: z.string() }) };
const messages = [{ role: 'user', content: question }];

function say(response, next) {
  messages.push(...response.messages, { role: 'user', content: next });
}

async function converse() {
  const first = await generateText({ ...withTools, messages });
  say(first.response, 'And once more?');
  const second = streamText({ ...withTools, messages, onError: ({ error }) => { throw error; } });
  let text = '';
  for await (const part of second.textStream) text += part;
  say(await second.response, 'As JSON, please.');
  const third = await generateObject({ ...object, messages });
  const fourth = streamObject({ ...object, messages });
  const partial = [];
  for await (const each of fourth.partialObjectStream) partial.push(each);
  return {
    texts: [first.text, text],
    steps: [first.steps.length, (await second.steps).length],
    reasoning: [first.steps.map(step => step.reasoningText ?? null), (await second.steps).map(step => step.reasoningText ?? null)],
    objects: [third.object, await fourth.object, partial.at(-1)],
    usage: first.totalUsage.outputTokens > 0,
  };
}

try {
  console.log(JSON.stringify(await converse()));
} catch (error) {
  console.log(JSON.stringify({ status: error.statusCode, error: error.data?.error ?? error.message }));
}
