// An agent: reads documents for a task until the task is over. Started by orchestrator.ts with the task's id.

import { Client, TaskEndedError } from 'leasehold'

const [, , play = 'play', taskId = '', api = 'https://localhost:8443'] = process.argv

const client = new Client({
  ca: `${play}/root.pem`,
  identity: { cert: `${play}/summarizer.pem`, key: `${play}/summarizer.key` },
})

await using credential = await client
  .task(taskId)
  .credential({ audience: 'https://documents.dev.example', origins: [api] })

try {
  for (let page = 1; ; page++) {
    const answer = await credential.fetch(`${api}/pages/${page}`)
    if (!answer.ok) throw new Error(`page ${page}: ${answer.status} ${await answer.text()}`)
    console.log(`agent: read page ${page}: ${await answer.text()}`)
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
} catch (error) {
  if (!(error instanceof TaskEndedError)) throw error
  console.log(`agent: ${error.message}`)
}
