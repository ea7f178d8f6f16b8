-- What was measured of a sample, or why the template refused it; another process may have been faster.
insert into lengths (
  sample_hash, tokenizer, template_hash, prompt_tokens, completion_tokens, total_tokens, unreached, refusal
)
values (
  :sample_hash, :tokenizer, :template_hash, :prompt_tokens, :completion_tokens, :total_tokens, :unreached, :refusal
)
on conflict (tokenizer, template_hash, sample_hash) do nothing
