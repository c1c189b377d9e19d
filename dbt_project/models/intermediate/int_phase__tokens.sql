with requests as (

    select * from {{ ref('int_requests__placed') }}
    where succeeded

),

windows as (

    select * from {{ ref('int_profile__windows') }}

),

phases as (

    select
        trace_no,
        start_ns,
        end_ns,
        phase = 'prefill' as prefill,
        phase = 'decode' as decode,
        phase = 'mixed' as mixed
    from {{ ref('int_phase__windows') }}
    where phase in ('prefill', 'decode', 'mixed')

),

traces as (

    select
        trace_no,
        coalesce(
            min(unplaced_reason),
            case
                when bool_or(first_token_ns is null or end_ns is null) then 'a successful request lacks its latency'
                when bool_or(input_tokens is null or output_tokens is null)
                    then 'a successful request lacks its token counts'
            end
        ) as token_reason
    from requests
    group by trace_no

),

-- prefill makes the first token, decode the others
spans as (

    select
        trace_no,
        false as is_decode,
        start_ns,
        greatest(first_token_ns, start_ns + 1) as end_ns,
        input_tokens as prompt_tokens,
        least(output_tokens, 1) as generated_tokens
    from requests
    where first_token_ns is not null
    union all by name
    select
        trace_no,
        true as is_decode,
        first_token_ns as start_ns,
        greatest(end_ns, first_token_ns + 1) as end_ns,
        0 as prompt_tokens,
        output_tokens - 1 as generated_tokens
    from requests
    where end_ns is not null and output_tokens > 1

),

inside as (

    select
        spans.*,
        (least(spans.end_ns, windows.window_end_ns) - greatest(spans.start_ns, windows.window_start_ns))
        / cast(spans.end_ns - spans.start_ns as double) as share
    from spans
    inner join windows on spans.trace_no = windows.trace_no
    where spans.end_ns > windows.window_start_ns and spans.start_ns < windows.window_end_ns

),

instants as (

    select
        trace_no,
        start_ns as at_ns
    from inside
    union distinct
    select
        trace_no,
        end_ns as at_ns
    from inside

),

covered as (

    {{ covered_until('phases', 'instants', ['trace_no'], ['prefill', 'decode', 'mixed']) }}

),

measured as (

    select
        inside.trace_no,
        inside.share * inside.prompt_tokens as prompt_tokens,
        inside.share * inside.generated_tokens as generated_tokens,
        inside.is_decode,
        case
            when inside.is_decode then ends.decode_ns - starts.decode_ns else ends.prefill_ns - starts.prefill_ns
        end as own_ns,
        ends.mixed_ns - starts.mixed_ns as mixed_ns
    from inside
    -- one row an instant on both sides
    inner join covered as starts on inside.trace_no = starts.trace_no and inside.start_ns = starts.at_ns
    inner join covered as ends on inside.trace_no = ends.trace_no and inside.end_ns = ends.at_ns

),

-- a request's tokens go to the windows that it overlaps, by length
shares as (

    select
        trace_no,
        case when is_decode then 'decode' else 'prefill' end as phase,
        prompt_tokens * own_ns / (own_ns + mixed_ns) as prompt_tokens,
        generated_tokens * own_ns / (own_ns + mixed_ns) as generated_tokens
    from measured
    where own_ns > 0
    union all by name
    select
        trace_no,
        'mixed' as phase,
        prompt_tokens * mixed_ns / (own_ns + mixed_ns) as prompt_tokens,
        generated_tokens * mixed_ns / (own_ns + mixed_ns) as generated_tokens
    from measured
    where mixed_ns > 0

),

homeless as (

    select
        trace_no,
        sum(prompt_tokens + generated_tokens) filter (where own_ns + mixed_ns = 0)
        > 0.01 * sum(prompt_tokens + generated_tokens) as has_lost_tokens
    from measured
    group by trace_no

),

summed as (

    select
        trace_no,
        phase,
        sum(prompt_tokens) as prompt_tokens,
        sum(generated_tokens) as generated_tokens
    from shares
    group by trace_no, phase

),

wanted as (

    select distinct
        trace_no,
        phase
    from {{ ref('int_phase__windows') }}
    where phase in ('prefill', 'decode', 'mixed')

),

judged as (

    select
        wanted.trace_no,
        wanted.phase,
        coalesce(summed.prompt_tokens, 0) as prompt_tokens,
        coalesce(summed.generated_tokens, 0) as generated_tokens,
        case
            when traces.trace_no is null then 'the trace has no successful requests with details'
            when traces.token_reason is not null then traces.token_reason
            when homeless.has_lost_tokens
                then 'over 1 % of the tokens fall outside of all phase windows: do the clocks agree?'
        end as token_reason
    from wanted
    left join traces on wanted.trace_no = traces.trace_no
    left join homeless on wanted.trace_no = homeless.trace_no
    left join summed on wanted.trace_no = summed.trace_no and wanted.phase = summed.phase

),

final as (

    select
        trace_no,
        phase,
        case when token_reason is null then prompt_tokens end as prompt_tokens,
        case when token_reason is null then generated_tokens end as generated_tokens,
        token_reason
    from judged

)

select * from final
