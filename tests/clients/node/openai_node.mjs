// OpenAI's client for Node.js, chat completions and responses. Prints what the application gets.
import OpenAI from 'openai';
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';

const { scenario, baseURL, model, question } = JSON.parse(process.argv[2]);
const client = new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0 });
const user = { role: 'user', content: question };
const Opposite = z.object({ word: z.string() });
const parameters = { type: 'object', properties: { word: { type: 'string' } }, required: ['word'], additionalProperties: false };
const lookUp = { name: 'look_up', description: 'Looks a word up in the dictionary.', parameters };
const define = ({ word }) => `${word}: an adjective`;

const scenarios = {
  async chat() {
    const { data, request_id } = await client.chat.completions.create({ model, messages: [user] }).withResponse();
    return { text: data.choices[0].message.content, id: request_id };
  },
  async chat_stream() {
    const stream = client.chat.completions.stream({ model, messages: [user] });
    let text = '';
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
    return { text, final: await stream.finalContent() };
  },
  async chat_tools() {
    const tools = [{ type: 'function', function: { ...lookUp, function: define, parse: JSON.parse } }];
    return { text: await client.chat.completions.runTools({ model, messages: [user], tools }).finalContent() };
  },
  async chat_parse() {
    const response_format = zodResponseFormat(Opposite, 'opposite');
    const completion = await client.chat.completions.parse({ model, messages: [user], response_format });
    return completion.choices[0].message.parsed;
  },
  async responses() {
    const first = await client.responses.create({ model, input: question });
    const second = await client.responses.create({ model, input: 'And once more?', previous_response_id: first.id });
    const kept = await client.responses.retrieve(second.id);
    await client.responses.delete(second.id);
    const gone = await client.responses.retrieve(second.id).catch(error => error);
    return { texts: [first, second, kept].map(response => response.output_text), gone: [gone.status, gone.code] };
  },
  async responses_stream() {
    const stream = client.responses.stream({ model, input: question });
    let text = '';
    for await (const event of stream) if (event.type === 'response.output_text.delta') text += event.delta;
    return { text, final: (await stream.finalResponse()).output_text };
  },
  async responses_tools() {
    const tools = [{ type: 'function', strict: true, ...lookUp }];
    const input = [user];
    const first = await client.responses.create({ model, input, tools });
    for (const item of first.output) {
      input.push({ type: 'item_reference', id: item.id });
      if (item.type === 'function_call')
        input.push({ type: 'function_call_output', call_id: item.call_id, output: define(JSON.parse(item.arguments)) });
    }
    return { text: (await client.responses.create({ model, input, tools })).output_text };
  },
  async responses_parse() {
    const text = { format: zodTextFormat(Opposite, 'opposite') };
    return (await client.responses.parse({ model, input: question, text })).output_parsed;
  },
};

try {
  console.log(JSON.stringify(await scenarios[scenario]()));
} catch (error) {
  console.log(JSON.stringify({ status: error.status, code: error.code, retry_after: error.headers?.get('retry-after') }));
}
