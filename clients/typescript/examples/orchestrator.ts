// An orchestrator: begins a task, starts an agent that does it, says when the task changes, and ends it.
//
//   leasehold dev --dir play                     # in one terminal
//   node build/examples/resource-server.js play  # in another
//   node build/examples/orchestrator.js play     # in a third

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

import { Client } from 'leasehold'

const play = process.argv[2] ?? 'play'
const api = process.argv[3] ?? 'https://localhost:8443'

const client = new Client({
  ca: `${play}/root.pem`,
  identity: { cert: `${play}/orchestrator.pem`, key: `${play}/orchestrator.key` },
})

const work = {
  agent: 'spiffe://dev.example/agents/summarizer/1',
  tier: 'standard',
  grant: { 'https://documents.dev.example': ['read'] },
  duration: '30m',
  purpose: 'Summarize the report',
} as const

// Completed when the work is done; failed if it throws.
await client.withTask(work, async (task) => {
  console.log(`orchestrator: began ${task.id}`)
  const program = fileURLToPath(new URL('agent.js', import.meta.url))
  const agent = spawn(process.execPath, [program, play, task.id, api], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let pages = 0
  for await (const line of createInterface({ input: agent.stdout })) {
    console.log(line)
    if (!line.includes('read page')) continue
    pages += 1
    if (pages === 1) {
      // What the agent holds is dead from here on; it asks again, and goes on.
      const { task: changed } = await task.advance({ step: 'review' })
      console.log(`orchestrator: the task is in epoch ${changed.epoch}`)
    }
    if (pages === 2) {
      // So is whatever it asks for from here on.
      await task.complete({ reason: 'the summary is written' })
      console.log('orchestrator: completed the task')
    }
  }
})
