// What strangers get: the packed package, by itself, in a project of their own.

import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import { Broker } from './support/broker.js'

/** The package's folder; tests run from build/test/. */
const HOME = fileURLToPath(new URL('../..', import.meta.url))

interface Manifest {
  readonly version: string
  readonly license: string
  readonly dependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
}

interface Lock {
  readonly packages: Readonly<
    Record<string, { readonly resolved?: string; readonly integrity?: string }>
  >
}

const manifest = json('package.json') as Manifest
const dependencies = Object.keys(manifest.dependencies ?? {})
const dir = mkdtempSync(join(tmpdir(), 'leasehold-stranger-'))
const installed = join(dir, 'node_modules', 'leasehold')

before(() => {
  const tarball = join(HOME, 'build', `leasehold-${manifest.version}.tgz`)
  mkdirSync(installed, { recursive: true })
  execFileSync('tar', ['-xzf', tarball, '--strip-components=1', '-C', installed])
  for (const name of [...dependencies, '@types/node', 'undici-types', 'reflect-metadata']) {
    const link = join(dir, 'node_modules', name)
    mkdirSync(dirname(link), { recursive: true })
    symlinkSync(join(HOME, 'node_modules', name), link)
  }
  writeFileSync(join(dir, 'package.json'), '{ "type": "module" }')
})

after(() => {
  rmSync(dir, { recursive: true })
})

test('the package has what it takes to use it, and nothing else', () => {
  const packed = readdirSync(installed, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(installed.length + 1))
  const modules = readdirSync(join(HOME, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => `dist/${file.slice(0, -'.ts'.length)}`)
  const expected = modules.flatMap((module) => [`${module}.d.ts`, `${module}.js`])
  assert.deepEqual(packed.sort(), [...expected, 'LICENSE', 'README.md', 'package.json'].sort())
  for (const file of packed) {
    const text = readFileSync(join(installed, file), 'utf8')
    assert.ok(!text.includes(HOME), `${file} names a folder of the machine that made it`)
  }
})

test('it says what it is, and for whom', () => {
  const { version, license, dependencies, devDependencies, ...rest } = manifest
  assert.match(version, /^\d+\.\d+\.\d+$/)
  assert.equal(license, 'Apache-2.0')
  assert.match(readFileSync(join(installed, 'LICENSE'), 'utf8'), /Apache License\s+Version 2\.0/)
  const { type, engines, sideEffects } = rest as Record<string, unknown>
  assert.deepEqual(
    { type, engines, sideEffects },
    { type: 'module', engines: { node: '>=20.18.1' }, sideEffects: false },
  )
  const free = new Set(['Apache-2.0', 'MIT', '(Apache-2.0 AND BSD-3-Clause)'])
  for (const name of Object.keys(dependencies ?? {})) {
    const other = json(`node_modules/${name}/package.json`) as Manifest
    assert.ok(free.has(other.license), `${name} has the licence ${other.license}`)
    assert.deepEqual(Object.keys(other.dependencies ?? {}), [], `${name} brings others`)
  }
  for (const [name, range] of Object.entries(devDependencies ?? {})) {
    assert.match(range, /^\d+\.\d+\.\d+$/, `${name} is not pinned`)
  }
})

test('the lock file pins every package by its hash, and names no place to load it from', () => {
  const { packages } = json('package-lock.json') as Lock
  const locked = Object.entries(packages).filter(([path]) => path !== '')
  assert.ok(locked.length > 50)
  for (const [path, { resolved, integrity }] of locked) {
    assert.equal(resolved, undefined, path)
    assert.match(integrity ?? '', /^sha512-/, path)
  }
})

test('a strict project compiles what the README shows', async () => {
  const [first = '', ...others] = blocks()
  assert.ok(others.length >= 3)
  writeFileSync(join(dir, 'first.mts'), first)
  for (const [n, block] of others.entries())
    writeFileSync(join(dir, `other${String(n)}.ts`), PRELUDE + block)
  const options = {
    ...{ target: 'es2022', module: 'nodenext', lib: ['es2023', 'esnext.disposable'] },
    ...{ types: ['node'], strict: true, exactOptionalPropertyTypes: true, skipLibCheck: false },
  }
  writeFileSync(
    join(dir, 'tsconfig.json'),
    JSON.stringify({ compilerOptions: options, include: ['*.ts', '*.mts'] }),
  )
  const tsc = join(HOME, 'node_modules', 'typescript', 'bin', 'tsc')
  const compiled = await promisify(execFile)(process.execPath, [tsc, '-p', dir]).catch(
    (error: unknown) => error,
  )
  assert.deepEqual(compiled, { stdout: '', stderr: '' })
})

test('the ten lines of the README show a credential die', async () => {
  const [first = ''] = blocks()
  assert.ok(
    first.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('import')).length <=
      10,
  )
  const broker = await Broker.start()
  try {
    // The playground of the test has free ports, and a folder of its own.
    const program = first
      .replace('https://localhost:7701', broker.issuer)
      .replaceAll('play/', `${broker.dir}/`)
    writeFileSync(join(dir, 'run.mjs'), program)
    const env = { ...process.env, LEASEHOLD_BROKER: broker.address }
    const run = promisify(execFile)(process.execPath, [join(dir, 'run.mjs')], {
      env,
      timeout: 30_000,
    })
    const { stdout, stderr } = await run
    assert.equal(stderr, '')
    assert.match(
      stdout,
      /^while the task runs: \{[^]*active: true[^]*\}\nwhen it has ended: undefined\n$/,
    )
  } finally {
    await broker.remove()
  }
})

/** What the pieces of code after the first take for granted. */
const PRELUDE = `
import { createServer } from 'node:https'
import { Client, presentedBy, Sidecar, TokenRefusedError, Verifier } from 'leasehold'
declare const client: Client
declare const taskId: string
declare const tls: { cert: string; key: string }
declare function askAgent(what: string, taskId: string): Promise<string>
`

/** The README's pieces of TypeScript. */
function blocks(): string[] {
  const readme = readFileSync(join(HOME, 'README.md'), 'utf8')
  return [...readme.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, block = '']) => block)
}

function json(path: string): unknown {
  return JSON.parse(readFileSync(join(HOME, path), 'utf8'))
}
