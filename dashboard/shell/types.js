/**
 * Types of the pages. Nothing runs here.
 *
 * A page is a module `pages/NAME.js` that exports
 *   `async function mount(root, params, app)`  ->  `() => void`, which undoes it.
 * `root` is an empty element of its own. `params` holds what the path names and the query.
 * After a change of language the page is mounted anew; a change of theme is told by
 * `app.on("theme", listener)`. Pages reach the server through `app.api` and `live.js` alone.
 *
 * @typedef {object} Label
 * @property {string} name  as in results
 * @property {string} name_zh
 *
 * @typedef {object} ModelNotice
 * @property {string} name
 * @property {string} licence
 * @property {string} notice  what must be said wherever the model is in use, or ""
 * @property {string} [runtime]
 *
 * @typedef {object} Info
 * @property {string} version
 * @property {string} ingest_url  WebSocket address that takes audio
 * @property {ModelNotice} model
 * @property {Label[]} labels  in the order of posteriors
 * @property {string[]} analyse_roles
 * @property {{state: string, model: string, done_bytes: number, total_bytes: number | null}} upgrade
 *   a model that is being fetched
 * @property {boolean} recording  whether audio is kept
 * @property {{version: string, texts: Record<string, string>}} notice  shown before the microphone opens
 * @property {{kind: string, name: string, scopes: string[], teams: string[] | null}} me  who asks
 * @property {number} max_file_mb  largest file that is analysed, MiB
 * @property {Record<string, any>} presets  what files can be analysed for
 * @property {boolean} store  whether timelines outlive their stream
 * @property {{name: string, labels: string[], roles: string[], threshold: number, hold_s: number, severity: string}[]} rules
 *   that raise alerts
 *
 * @typedef {object} App
 * @property {import("./api.js").Api} api
 * @property {(key: string, values?: Record<string, string | number>) => string} t  text
 * @property {(key: string, count: number, values?: Record<string, string | number>) => string} plural
 *   text for a count: keys `KEY.one` and `KEY.other`, the count is `{n}`
 * @property {(name: string | null) => string} label  word of an emotion in the current language; null: unclear
 * @property {"en" | "zh"} lang
 * @property {import("./format.js").Format} format
 * @property {Label[]} labels
 * @property {typeof import("./palette.js")} palette
 * @property {Info} info
 * @property {(path: string, options?: {replace?: boolean}) => void} navigate
 * @property {(event: "theme" | "alerts" | "open-alerts", listener: (detail: any) => void) => () => void} on
 *   returns what ends it
 * @property {(event: "theme" | "alerts" | "open-alerts", detail?: any) => void} emit
 * @property {(state: "idle" | "live" | "waiting", heard_at?: number) => void} connection  shown in the
 *   header; `heard_at`: when the server was last heard, seconds since 1970
 * @property {{n: number, text: string}} openAlerts  how many alerts are not acknowledged, and as it is shown
 * @property {(text?: string) => void} title  sets the page's title; without a text: the count in it
 *
 * @typedef {object} Params
 * @property {string} path
 * @property {string} [id]  of the stream
 * @property {URLSearchParams} query
 *
 * @typedef {object} StreamChannel
 * @property {number} index
 * @property {string} role
 * @property {string} name
 * @property {boolean} analysed
 *
 * @typedef {object} Point
 * @property {"point"} type
 * @property {string} stream_id
 * @property {number} seq
 * @property {number} channel
 * @property {string} role
 * @property {number} start_s
 * @property {number} end_s
 * @property {number[]} posteriors
 * @property {string} label
 * @property {number} confidence
 * @property {number} speech_share
 * @property {boolean} provisional
 * @property {boolean} widened
 * @property {boolean} narrow_band
 * @property {string} model
 *
 * @typedef {object} Span  a segment (`label`, `confidence`) or a gap (`reason`)
 * @property {"segment" | "gap"} type
 * @property {number} seq
 * @property {number} channel
 * @property {number} start_s
 * @property {number} end_s
 * @property {string} [label]
 * @property {number} [confidence]
 * @property {string} [reason]
 * @property {string} [speaker]
 * @property {boolean} final
 *
 * @typedef {object} AlertRecord
 * @property {string} alert_id
 * @property {string} stream_id
 * @property {string} stream_name
 * @property {string} rule
 * @property {"info" | "warning" | "critical"} severity
 * @property {number} channel
 * @property {string} role
 * @property {string[]} labels
 * @property {number} posterior
 * @property {number} since_sample  16 kHz
 * @property {number} raised_sample
 * @property {number} raised_at  seconds since 1970
 * @property {number | null} cleared_sample
 * @property {number | null} cleared_at
 * @property {number | null} acknowledged_at
 * @property {string | null} acknowledged_note
 * @property {string | null} acknowledged_by
 * @property {string | null} assigned_to
 */
export {};
