with graphs as (

    select * from {{ ref('stg_graph_launches') }}
    where {{ pending_filter('trace_id') }}

),

traces as (

    select * from {{ ref('int_trace__pending') }}

),

phases as (

    select * from {{ ref('int_phase__windows') }}

),

steps as (

    select * from {{ ref('int_training__steps') }}

),

spans as (

    select
        traces.trace_no,
        graphs.start_ns,
        graphs.end_ns,
        true as hidden
    from graphs
    inner join traces on graphs.trace_id = traces.trace_id

),

edges as (

    select
        trace_no,
        unnest([start_ns, end_ns]) as at_ns
    from phases
    union distinct
    select
        trace_no,
        unnest([start_ns, end_ns]) as at_ns
    from steps

),

instants as (

    select edges.* from edges
    semi join spans on edges.trace_no = spans.trace_no

),

final as (

    {{ covered_until('spans', 'instants', ['trace_no'], ['hidden']) }}

)

select * from final
